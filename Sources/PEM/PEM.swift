import COpenSSL
public import ConfigJSON
import LinuxSystem

/// Certificates and keys in PEM (RFC 7468), as OpenSSL reads them.
@safe public enum PEM {
    /// Lends each certificate of a source to `body`; none is a problem.
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

    /// Refuses a text that holds none of its kind, or that does not end after the last one.
    private static func check(_ count: Int, _ kind: String, _ short: String, _ source: ConfigSource) throws(Problem) {
        // The end of the text is an error of its own kind to OpenSSL; any other one means that the next one is spoilt.
        let error = ERR_peek_last_error()
        ERR_clear_error()
        guard count > 0, copenssl_reason(error) == PEM_R_NO_START_LINE else {
            throw source.problem(count == 0 ? "holds no \(kind) in PEM" : "\(short) \(count + 1) is spoilt: \(reason(error))")
        }
    }

    /// Lends each list of revoked certificates of a source to `body`; none is a problem.
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

    /// Lends the private key of a source to `body`.
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

    /// A certificate outside its time would only make clients fail, one by one and later.
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

    /// OpenSSL would ask for a passphrase on the terminal.
    private static let refusePassphrase: @convention(c) (UnsafeMutablePointer<CChar>?, Int32, Int32, UnsafeMutableRawPointer?) -> Int32 = {
        _, _, _, _ in -1
    }

    private static func memory(_ source: ConfigSource) throws(Problem) -> OpaquePointer {
        let text = try source.read()
        // OpenSSL would not see the first certificate behind one, and take the next for it.
        try source.refuseByteOrderMark(text)
        ERR_clear_error()
        guard let memory = unsafe BIO_new(BIO_s_mem()) else { throw source.problem("cannot be read: no memory") }
        _ = unsafe BIO_write(memory, text, Int32(text.count))
        return unsafe memory
    }

    /// OpenSSL's sentence for an error.
    public static func reason(_ error: UInt) -> String {
        unsafe ERR_reason_error_string(error).map { unsafe String(cString: $0) } ?? "error \(error)"
    }
}
