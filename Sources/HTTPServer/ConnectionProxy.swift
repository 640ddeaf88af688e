import LinuxSystem
import Telemetry

/// The PROXY header with which the connections of a listener with `proxy_protocol` begin, before TLS.
extension Connection {
    var awaitsProxyHeader: Bool { if case .proxyHeader = phase { true } else { false } }

    /// Starts to read the header, or closes the connection of an address that is not trusted to say whose it is.
    func beginProxyHeader() {
        guard listener.service.http.trustedProxies.contains(peer) else {
            return refuseProxyHeader("the peer is not one of trusted_proxies")
        }
        readProxyHeader()
    }

    /// Reads what has come of the header, and nothing behind it, for that may be TLS, which reads from the socket itself.
    func readProxyHeader() {
        var scratch: [UInt8] = []
        swap(&scratch, &table.scratch)
        defer { swap(&scratch, &table.scratch) }
        switch Socket.peek(transport.number, into: &scratch, atMost: ProxyHeader.longest) {
        case .wouldBlock: set(.readable)
        case .failed, .done(0): close()
        case .done(let count):
            let kept = takeInput()
            let bytes = kept + scratch[..<count]
            do throws(ProxyHeader.Malformed) {
                switch try ProxyHeader.parse(bytes[...]) {
                case .incomplete:
                    guard skip(count, &scratch), reserve(bytes.count, for: .head) else { return close() }
                    input.keep(bytes)
                case .header(let source, let length):
                    guard skip(length - kept.count, &scratch) else { return close() }
                    endProxyHeader(source)
                }
            } catch { refuseProxyHeader(error.reason) }
        }
    }

    /// Takes bytes from the socket that were looked at before.
    private func skip(_ count: Int, _ scratch: inout [UInt8]) -> Bool {
        Socket.receive(transport.number, into: &scratch, atMost: count) == .done(count)
    }

    private func endProxyHeader(_ source: PeerAddress?) {
        let isSecure = listener.service.security.certificates != nil
        phase = isSecure ? .handshake : .head
        if let source, !listener.move(peer, to: source) {
            name(source)
            listener.counters.refused[.perAddress]?.add()
            return isSecure ? close() : refuse(for: .perAddress)
        }
        if let source { name(source) }
        // What has come of the request, or of a hello, is reported by the poller again.
        set(.readable)
    }

    private func name(_ source: PeerAddress) {
        peer = source
        request.head = RequestHead(peer: source, peerText: source.address)
    }

    func refuseProxyHeader(_ reason: String) {
        logMistake(.proxy, "PROXY header refused", reason)
        close()
    }
}
