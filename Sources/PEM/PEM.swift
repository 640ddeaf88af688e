import COpenSSL
public import ConfigJSON
import LinuxSystem

/// Reads certificates and keys in PEM (RFC 7468) with OpenSSL.
@safe public enum PEM {
    /// Passes each certificate of a source to `body`; a source without one is a problem.
    public static func certificates(_ source: ConfigSource, _ body: (OpaquePointer) throws(Problem) -> Void) throws(Problem) {
        let memory = unsafe try memory(source)
        defer { unsafe BIO_free(memory) }
        var count = 0
        while let certificate = unsafe PEM_read_bio_X509(memory, nil, refusePassphrase, nil) {
            defer { unsafe X509_free(certificate) }
            count += 1
            unsafe try body(certificate)
        }
        try check(count, "certificate", "certificate", source)
    }

    /// Refuses a text without an entry of the kind, or with a damaged entry.
    private static func check(_ count: Int, _ kind: String, _ short: String, _ source: ConfigSource) throws(Problem) {
        // At the end of the text OpenSSL reports "no start line"; any other error means that the next entry is damaged.
        let error = ERR_peek_last_error()
        ERR_clear_error()
        guard count > 0, copenssl_reason(error) == PEM_R_NO_START_LINE else {
            throw source.problem(count == 0 ? "holds no \(kind) in PEM" : "\(short) \(count + 1) is spoilt: \(reason(error))")
        }
    }

    /// Passes each certificate revocation list of a source to `body`; a source without one is a problem.
    public static func revocationLists(_ source: ConfigSource, _ body: (OpaquePointer) throws(Problem) -> Void) throws(Problem) {
        let memory = unsafe try memory(source)
        defer { unsafe BIO_free(memory) }
        var count = 0
        while let list = unsafe PEM_read_bio_X509_CRL(memory, nil, refusePassphrase, nil) {
            defer { unsafe X509_CRL_free(list) }
            count += 1
            if let next = unsafe X509_CRL_get0_nextUpdate(list), unsafe X509_cmp_current_time(next) < 0 {
                throw unsafe source.problem("list \(count) is out of date: the next one was due on \(day(next))")
            }
            unsafe try body(list)
        }
        try check(count, "list of revoked certificates", "list", source)
    }

    /// Passes the private key of a source to `body`.
    public static func privateKey(_ source: ConfigSource, _ body: (OpaquePointer) throws(Problem) -> Void) throws(Problem) {
        let memory = unsafe try memory(source)
        defer { unsafe BIO_free(memory) }
        guard let key = unsafe PEM_read_bio_PrivateKey(memory, nil, refusePassphrase, nil) else {
            let error = ERR_peek_last_error()
            ERR_clear_error()
            throw source.problem("holds no private key in PEM without a passphrase: \(reason(error))")
        }
        defer { unsafe EVP_PKEY_free(key) }
        unsafe try body(key)
    }

    /// Refuses a certificate that has expired or is not valid yet; with it, clients would fail later and one by one.
    public static func checkTime(_ certificate: OpaquePointer, _ source: ConfigSource) throws(Problem) {
        if unsafe X509_cmp_current_time(X509_get0_notAfter(certificate)) < 0 {
            throw unsafe source.problem("has expired: it was valid until \(day(X509_get0_notAfter(certificate)))")
        }
        if unsafe X509_cmp_current_time(X509_get0_notBefore(certificate)) > 0 {
            throw unsafe source.problem("is not valid before \(day(X509_get0_notBefore(certificate)))")
        }
    }

    private static func day(_ time: UnsafePointer<ASN1_TIME>?) -> String {
        var parts = unsafe tm()
        guard unsafe ASN1_TIME_to_tm(time, &parts) == 1 else { return "an unreadable date" }
        return unsafe "\(parts.tm_year + 1900)-\(CivilTime.pad(Int(parts.tm_mon) + 1))-\(CivilTime.pad(Int(parts.tm_mday)))"
    }

    /// Returns no passphrase; by default OpenSSL would ask for one on the terminal.
    private static let refusePassphrase: @convention(c) (UnsafeMutablePointer<CChar>?, Int32, Int32, UnsafeMutableRawPointer?) -> Int32 = {
        _, _, _, _ in -1
    }

    private static func memory(_ source: ConfigSource) throws(Problem) -> OpaquePointer {
        let text = try source.read()
        // After a byte order mark OpenSSL would skip the first certificate and use the next one.
        try source.refuseByteOrderMark(text)
        ERR_clear_error()
        guard let memory = unsafe BIO_new(BIO_s_mem()) else { throw source.problem("cannot be read: no memory") }
        _ = unsafe BIO_write(memory, text, Int32(text.count))
        return unsafe memory
    }

    /// OpenSSL's message for an error.
    public static func reason(_ error: UInt) -> String {
        unsafe ERR_reason_error_string(error).map { unsafe String(cString: $0) } ?? "error \(error)"
    }
}
