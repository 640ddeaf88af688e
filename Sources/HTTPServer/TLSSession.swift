import COpenSSL
import Glibc
import LinuxSystem
import PEM

/// The server's end of one TLS connection over a non-blocking socket.
///
/// `@unchecked`: one thread uses it at a time, because it lies in the connection's ``Transport``, which is handed over as a
/// whole.
@safe final class TLSSession: @unchecked Sendable {
    private let session: OpaquePointer
    /// The context under which the client's certificate was last verified.
    private var context: TLSContext
    /// When the first certificate of the client's verified chain expires, Unix time in seconds.
    private var certificateEnd = Int64.max
    /// How much may still be read: socket reads in the current call, and bytes of the handshake.
    private let allowance: UnsafeMutablePointer<copenssl_allowance>
    /// Set after a fatal error, when nothing more may be sent, not even close_notify.
    private var isBroken = false

    /// The state of a handshake after a step.
    enum Handshake: Equatable {
        case done, wantsReadable, wantsWritable
        /// The peer speaks HTTP without TLS, and can read an answer without TLS.
        case plainHTTP
        /// The peer has closed the connection, as port checks do.
        case gone
        case failed(String)
    }

    init(owning session: OpaquePointer, of context: TLSContext) {
        self.context = context
        unsafe self.session = unsafe session
        unsafe allowance = .allocate(capacity: 1)
        unsafe allowance.initialize(to: copenssl_allowance(reads: 0, bytes: Self.handshakeLimit, is_shaking_hands: 1))
        unsafe copenssl_bound_reads(session, allowance)
    }

    deinit {
        unsafe SSL_free(session)
        unsafe allowance.deallocate()
    }

    func handshake() -> Handshake {
        prepare()
        let result = unsafe SSL_do_handshake(session)
        if result == 1 {
            unsafe allowance.pointee.is_shaking_hands = 0
            if context.verifiesClients { certificateEnd = unsafe copenssl_client_end(session) }
            return .done
        }
        switch unsafe SSL_get_error(session, result) {
        case SSL_ERROR_WANT_READ: return .wantsReadable
        case SSL_ERROR_WANT_WRITE: return .wantsWritable
        default:
            isBroken = true
            if unsafe allowance.pointee.bytes < 0 { return .failed("the handshake is larger than \(Self.handshakeLimit) bytes") }
            let error = ERR_peek_error()
            if [SSL_R_HTTP_REQUEST, SSL_R_HTTPS_PROXY_REQUEST].contains(copenssl_reason(error)) { return .plainHTTP }
            return error == 0 ? .gone : .failed(PEM.reason(error))
        }
    }

    /// Whether decrypted bytes wait here, which the readiness of the socket does not show.
    var hasUnread: Bool { unsafe SSL_pending(session) > 0 }

    /// Whether the last read must wait until the socket is writable: a TLS 1.3 key update has to be answered first.
    private(set) var readWantsWritable = false

    /// Whether the client has shown a certificate in which OpenSSL found nothing wrong.
    var hasVerifiedCertificate: Bool {
        unsafe SSL_get0_peer_certificate(session) != nil && SSL_get_verify_result(session) == Int(X509_V_OK)
    }

    /// Whether ``objection(under:at:)`` must verify the certificate again, because the files have changed since.
    func isOutdated(under current: TLSContext?) -> Bool { current.map { $0 !== context } ?? false }

    /// Why the client's requests are not served any more, by the requirements for new clients; nil when they are served.
    ///
    /// - Parameters:
    ///   - current: the listener's context; nil when it no longer uses TLS.
    ///   - time: Unix time in seconds.
    func objection(under current: TLSContext?, at time: Int64) -> String? {
        if let current, isOutdated(under: current) {
            switch unsafe current.review(session) {
            case .refused(let why): return why
            case .accepted(let end): (context, certificateEnd) = (current, end)
            }
        }
        return time > certificateEnd ? "the client certificate of this connection has expired" : nil
    }

    func read(into buffer: UnsafeMutableRawBufferPointer) -> Transfer {
        prepare()
        return transfer(unsafe SSL_read(session, buffer.baseAddress, Int32(clamping: buffer.count)))
    }

    func write(_ bytes: UnsafeRawBufferPointer) -> Transfer {
        prepare()
        return transfer(unsafe SSL_write(session, bytes.baseAddress, Int32(clamping: bytes.count)))
    }

    /// The most reads from the socket in one call; a record takes two.
    private static let readsPerCall: Int32 = 64

    /// The most bytes that a client may send in a handshake; usual are a hello of 2 KiB and a chain of certificates.
    static let handshakeLimit: Int32 = 32 * 1024

    private func prepare() {
        ERR_clear_error()
        unsafe allowance.pointee.reads = Self.readsPerCall
    }

    private func transfer(_ result: Int32) -> Transfer {
        readWantsWritable = false
        if result > 0 { return .done(Int(result)) }
        switch unsafe SSL_get_error(session, result) {
        case SSL_ERROR_WANT_READ: return .wouldBlock
        case SSL_ERROR_WANT_WRITE:
            readWantsWritable = true
            return .wouldBlock
        case SSL_ERROR_ZERO_RETURN: return .done(0)
        default:
            isBroken = true
            return .failed(EPROTO)
        }
    }

    /// Sends close_notify once, without which a client cannot tell the end from a truncation (RFC 8446 §6.1).
    func sayGoodbye() {
        guard !isBroken, unsafe SSL_is_init_finished(session) == 1, unsafe SSL_get_shutdown(session) & SSL_SENT_SHUTDOWN == 0
        else { return }
        ERR_clear_error()
        _ = unsafe SSL_shutdown(session)
    }
}
