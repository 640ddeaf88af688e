import COpenSSL
import ConfigJSON
import LinuxSystem
import PEM

/// The certificate and key that a TLS listener shows, and its requirements for clients, as the files were at one moment;
/// immutable, usable from any thread.
@safe final class TLSContext: Sendable {
    private nonisolated(unsafe) let context: OpaquePointer
    private let clientAuth: TLSConfig.ClientAuth

    /// Reads certificate, key and authorities.
    ///
    /// - Throws: the files that cannot be used, and why.
    init(_ config: TLSConfig) throws(FileProblems) {
        var problems = FileProblems()
        let made: OpaquePointer? = unsafe problems.collect { () throws(Problem) in
            guard let context = unsafe SSL_CTX_new(TLS_server_method()) else {
                throw config.certificate.problem("no memory for a TLS context")
            }
            return unsafe context
        }
        guard let context = unsafe made else { throw problems }
        unsafe self.context = unsafe context
        clientAuth = config.clientAuth
        unsafe copenssl_set_defaults(context)
        guard unsafe copenssl_bound_costs(context) == 1 else {
            throw FileProblems(config.certificate.problem("OpenSSL has no AEAD suites"))
        }
        _ = unsafe copenssl_set_minimum(context, config.minimumVersion == .tls13 ? TLS1_3_VERSION : TLS1_2_VERSION)
        let hasCertificate: Void? = problems.collect { () throws(Problem) in try useCertificate(config.certificate) }
        _ = problems.collect { () throws(Problem) in try useKey(config.key, ofCertificate: hasCertificate != nil) }
        _ = problems.collect { () throws(Problem) in try askClients(config) }
        try problems.check()
    }

    deinit { unsafe SSL_CTX_free(context) }

    /// When the server's own certificate expires; Unix time in seconds.
    var certificateEnd: Int64 { unsafe copenssl_server_end(context) }

    /// Makes the server's end of a connection over `socket`; nil when there is no memory for it.
    func session(_ socket: Int32) -> TLSSession? {
        guard let session = unsafe SSL_new(context) else { return nil }
        unsafe SSL_set_accept_state(session)
        guard unsafe SSL_set_fd(session, socket) == 1 else {
            unsafe SSL_free(session)
            return nil
        }
        return unsafe TLSSession(owning: session, of: self)
    }

    /// The result of checking the client of an established session again.
    enum Review {
        /// The client may go on, until its certificate expires; Unix time in seconds.
        case accepted(until: Int64)
        /// The client would be refused in a handshake now, for this reason.
        case refused(String)
    }

    /// Whether clients must show a certificate.
    var requiresCertificate: Bool { clientAuth.requires }
    /// Whether a certificate that a client shows is verified.
    var verifiesClients: Bool { clientAuth.verifies }

    /// Checks the client of a session that began under another context, as a handshake under this one would.
    func review(_ session: OpaquePointer) -> Review {
        guard unsafe SSL_get0_peer_certificate(session) != nil else {
            return requiresCertificate ? .refused("a client certificate is required now") : .accepted(until: .max)
        }
        guard verifiesClients else { return .accepted(until: .max) }
        var end = Int64.max
        let error = unsafe copenssl_verify_again(session, context, &end)
        guard error != X509_V_OK else { return .accepted(until: end) }
        let reason = unsafe X509_verify_cert_error_string(Int(error)).map { unsafe String(cString: $0) } ?? "error \(error)"
        return .refused("the client certificate of this connection is not accepted any more: \(reason)")
    }

    private func useCertificate(_ source: ConfigSource) throws(Problem) {
        var isFirst = true
        unsafe try PEM.certificates(source) { (certificate) throws(Problem) in
            unsafe try PEM.checkTime(certificate, source)
            let isTaken =
                isFirst
                ? unsafe SSL_CTX_use_certificate(context, certificate) == 1 : unsafe copenssl_add_chain(context, certificate) == 1
            guard isTaken else { throw source.problem("OpenSSL refuses it: \(PEM.reason(ERR_peek_last_error()))") }
            isFirst = false
        }
    }

    private func useKey(_ source: ConfigSource, ofCertificate isChecked: Bool) throws(Problem) {
        unsafe try PEM.privateKey(source) { (key) throws(Problem) in
            ERR_clear_error()
            guard isChecked else { return }
            guard unsafe SSL_CTX_use_PrivateKey(context, key) == 1, unsafe SSL_CTX_check_private_key(context) == 1 else {
                throw source.problem("is not the key of the certificate: \(PEM.reason(ERR_peek_last_error()))")
            }
        }
    }

    private func askClients(_ config: TLSConfig) throws(Problem) {
        guard config.clientAuth != .none else { return unsafe SSL_CTX_set_verify(context, SSL_VERIFY_NONE, nil) }
        let mode = SSL_VERIFY_PEER | (config.clientAuth.requires ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0)
        // Without verification any certificate is accepted, and does not prove who the client is.
        unsafe SSL_CTX_set_verify(context, mode, config.clientAuth.verifies ? nil : { _, _ in 1 })
        // A resumed session would skip the checks of the certificate's time and of authorities that have been removed.
        unsafe copenssl_disable_resumption(context)
        guard let authorities = config.clientAuthorities else { return }
        unsafe try PEM.certificates(authorities) { (certificate) throws(Problem) in
            guard unsafe X509_STORE_add_cert(SSL_CTX_get_cert_store(context), certificate) == 1,
                unsafe SSL_CTX_add_client_CA(context, certificate) == 1
            else { throw authorities.problem("OpenSSL refuses a certificate: \(PEM.reason(ERR_peek_last_error()))") }
        }
        guard let lists = config.revocationLists else { return }
        unsafe try PEM.revocationLists(lists) { (list) throws(Problem) in
            guard unsafe X509_STORE_add_crl(SSL_CTX_get_cert_store(context), list) == 1 else {
                throw lists.problem("OpenSSL refuses a list: \(PEM.reason(ERR_peek_last_error()))")
            }
        }
        unsafe copenssl_check_revocation(context)
    }
}
