import LinuxSystem
import Telemetry

/// The steps before a request's body: the TLS handshake, the credentials, and the decision whether to receive the body.
extension Connection {
    // MARK: Handshake

    /// The memory counted for an unfinished handshake, in bytes: OpenSSL allocates room for a hello of 128 KiB as soon as one is
    /// announced.
    static let handshakeMemory = 192 * 1024

    /// Queues the connection for its next handshake step; its socket is not watched until the step has been made.
    func awaitTurn() {
        guard interest != [] else { return }
        interest = []
        table.unwatch(self)
        table.handshakes.append(key, from: peer)
    }

    /// Hands the transport over for the next handshake step; nil when no step is possible.
    func beginHandshakeStep() -> HandshakeStep? {
        guard isShakingHands else { return nil }
        // No record of TLS begins with a letter, but every request without it does.
        if !transport.isSecure, let first = Socket.firstByte(transport.number), 65...90 ~= first & 0xDF {
            refusePlainHTTP()
            return nil
        }
        // While it waited for its turn, nobody was told that the client has gone.
        if Socket.isGone(transport.number, orHalf: !transport.isSecure) {
            close()
            return nil
        }
        guard transport.isSecure || beginTLS() else { return nil }
        return HandshakeStep(key, transport.take())
    }

    /// Takes the transport back and continues according to the result of the step.
    func endHandshakeStep(_ returned: consuming Transport, _ result: TLSSession.Handshake) {
        transport = returned
        switch result {
        case .done:
            releaseReserved()
            phase = .head
            // A client that waits for an acknowledgement before its request would wait 40 ms, for no ticket may go out with it.
            Socket.acknowledge(transport.number)
            guard watchAgain() else { return }
            if isLeaving { leave() }
            readAgainIfUnread()
        case .wantsReadable: _ = watchAgain()
        case .wantsWritable: if watchAgain() { set(.writable) }
        case .gone: close()
        case .plainHTTP:
            transport.fallBackToPlain()
            refusePlainHTTP()
        case .failed(let reason):
            listener.counters.failedHandshakes.add()
            logMistake(.tls, "TLS handshake failed", reason)
            close()
        }
    }

    private func refusePlainHTTP() {
        listener.counters.failedHandshakes.add()
        releaseReserved()
        if watchAgain() { refuse(.error(400, "this listener speaks HTTPS; the request came without TLS")) }
    }

    private func watchAgain() -> Bool {
        interest = .readable
        return table.watch(self)
    }

    /// - Returns: false when the connection has been closed.
    private func beginTLS() -> Bool {
        if !reserve(Self.handshakeMemory, for: .handshake) {
            // When this loop has no handshake that could make room, exceeding the limit by one does no harm.
            table.makeRoomForHandshake()
            reserveAnyway(Self.handshakeMemory, for: .handshake)
        }
        guard let context = listener.service.security.certificates?.context, transport.beginTLS(context) else {
            close()
            return false
        }
        table.beganHandshake(self)
        return true
    }

    var isShakingHands: Bool { if case .handshake = phase { true } else { false } }
    /// Whether the client has sent something of a handshake that has not ended.
    var hasBegunHandshake: Bool { isShakingHands && (interest == [] || transport.isSecure) }

    // MARK: Memory for heads and handshakes

    /// Reserves part of `max_in_flight_bytes` for data that is kept before a body begins.
    func reserve(_ bytes: Int, for kind: BodyBudget.Beginning) -> Bool {
        let held = UInt32(clamping: bytes)
        guard listener.bodies.reserve(Int(held), for: kind) else { return false }
        (reservedBytes, reservedKind) = (held, kind)
        return true
    }

    private func reserveAnyway(_ bytes: Int, for kind: BodyBudget.Beginning) {
        let held = UInt32(clamping: bytes)
        listener.bodies.add(Int(held), for: kind)
        (reservedBytes, reservedKind) = (held, kind)
    }

    func releaseReserved() {
        listener.bodies.release(Int(reservedBytes), of: reservedKind)
        reservedBytes = 0
    }

    func takeInput() -> [UInt8] {
        releaseReserved()
        return input.take()
    }

    /// Keeps bytes that cannot be processed yet, if there is room for them.
    func keep(_ received: ArraySlice<UInt8>) {
        guard reserve(received.count, for: .head) else { return dropInput() }
        input.keep(Array(received))
    }

    /// Drops received bytes for which there is no room. While an answer is due, they belong to a later request, which nobody has
    /// promised to read, so the connection closes after the answer. Otherwise the current request is answered 503.
    func dropInput() {
        switch phase {
        case .waiting, .writing: request.keepsAlive = false
        default: refuse(.error(503, "no room for what has come of the request: max_in_flight_bytes is in use"))
        }
    }

    // MARK: The client's certificate

    /// Closes the connection when it has no request and its client would be refused now, under the current TLS files or because
    /// its certificate has expired.
    ///
    /// - Parameter mayVerify: whether there is time to verify the client's certificate again.
    /// - Returns: true when the certificate was verified again.
    func closeIfOutdated(mayVerify: Bool) -> Bool {
        guard case .head = phase, !input.hasBegun, !isClosed else { return false }
        let mustVerify = transport.isOutdated(under: listener.service.security.certificates?.context)
        guard mayVerify || !mustVerify else { return false }
        if objection != nil { close() }
        return mustVerify
    }

    private var objection: String? {
        transport.objection(under: listener.service.security.certificates?.context, at: MonotonicTime.unixNanoseconds / 1_000_000_000)
    }

    // MARK: Head

    func begin(_ head: RequestHead, hasMore: Bool) {
        var next = Request(
            number: request.number &+ 1, keepsAlive: head.keepsAlive && !table.isDraining, head: head, service: listener.service)
        (next.head.peer, next.head.peerText) = (peer, request.head.peerText)
        request = next
        nameClient()
        // The sender connects again, and shows its current certificate.
        if let objection { return refuse(.error(503, "\(objection); connect again")) }
        guard let access = request.service.security.access, !request.service.routes.isOpen(request.head) else {
            return admit(hasMore: hasMore)
        }
        switch access.judge(request.head, hasCertificate: transport.hasVerifiedCertificate) {
        case .allowed: admit(hasMore: hasMore)
        case .refused(let response): refuseBody(response)
        case .unsettled(let credentials): verify(credentials)
        }
    }

    /// Takes the client's address from X-Forwarded-For, where the connection comes from a trusted proxy.
    private func nameClient() {
        let trusted = request.service.http.trustedProxies
        guard trusted.contains(peer), let client = ForwardedFor.client(request.head, trusted: trusted) else { return }
        (request.head.peer, request.head.peerText, request.isForwarded) = (client, client.address, true)
    }

    private func admit(hasMore: Bool) {
        switch request.service.routes.admit(request.head) {
        case .refuse(let response): refuseBody(response)
        case .receive(let handler):
            beginBody(handler)
            if case .body = phase, request.head.expectsContinue, !hasMore { sendContinue() }
        }
    }

    /// RFC 9110 §10.1.1: the client holds the body back until it receives this.
    private func sendContinue() {
        let interim = Array("HTTP/1.1 100 Continue\r\n\r\n".utf8)
        // The socket has room for it unless the client has not read its earlier answers.
        if transport.send(interim, from: 0) != .done(interim.count) { close() }
    }

    // MARK: Credentials

    /// Has another thread verify credentials without a remembered outcome; the body stays in the kernel meanwhile.
    private func verify(_ credentials: Credentials) {
        phase = .verifying
        let (loop, key, number) = (table.loop, key, request.number)
        request.service.security.access?.verify(credentials, from: request.head.peer) { verdict in
            loop.post { table in table.connection(key)?.verified(request: number, verdict) }
        }
    }

    private func verified(request number: UInt32, _ verdict: AccessControl.Verdict) {
        guard case .verifying = phase, number == request.number else { return }
        // Restores the phase of a head that has just been read; the calls below set the next phase.
        phase = .head
        switch verdict {
        case .refused(let response): refuseBody(response)
        case .allowed, .unsettled: admit(hasMore: !input.isEmpty)
        }
        resumeReading()
    }

    /// Answers a request whose body is not wanted; a short body is read and discarded first, so that the connection can be kept.
    private func refuseBody(_ response: Response) {
        let head = request.head
        guard let length = head.framing.announced, length <= Self.discardLimit, !head.expectsContinue else { return refuse(response) }
        discard(response, left: length)
    }

    /// Reads and discards `left` bytes of a body, then answers.
    func discard(_ response: Response, left: Int) {
        if left > 0 { phase = .discarding(response, left: left) } else { respond(response) }
    }
}
