import LinuxSystem

/// What stands before a request's body: TLS, credentials, and whether the body is wanted.
extension Connection {
    // MARK: Handshake

    /// What a handshake that has not come to its end may hold: OpenSSL makes room for a hello of 128 KiB as soon as one is announced.
    static let handshakeMemory = 192 * 1024

    /// Waits for its turn to go on with the handshake; its socket is not watched until a step has been made.
    func awaitTurn() {
        guard interest != [] else { return }
        interest = []
        table.unwatch(self)
        table.handshakes.append(key)
    }

    /// Gives the transport away for the next step of the handshake; nil when there can be none.
    func beginHandshakeStep() -> HandshakeStep? {
        guard isShakingHands, transport.isSecure || beginTLS() else { return nil }
        return HandshakeStep(key, transport.take())
    }

    /// Takes the transport back, and goes on as the step has ended.
    func endHandshakeStep(_ returned: consuming Transport, _ result: TLSSession.Handshake) {
        transport = returned
        switch result {
        case .done:
            releaseReserved()
            phase = .head
            if watchAgain() { readAgainIfUnread() }
        case .wantsReadable: _ = watchAgain()
        case .wantsWritable: if watchAgain() { set(.writable) }
        case .gone: close()
        case .plainHTTP:
            listener.counters.failedHandshakes.add()
            transport.fallBackToPlain()
            releaseReserved()
            if watchAgain() { refuse(.error(400, "this listener speaks HTTPS; the request came without TLS")) }
        case .failed(let reason):
            listener.counters.failedHandshakes.add()
            Log.debug("TLS handshake failed", ["listener": listener.name, "reason": reason])
            close()
        }
    }

    private func watchAgain() -> Bool {
        interest = .readable
        return table.watch(self)
    }

    /// - Returns: false when it has been closed.
    private func beginTLS() -> Bool {
        if !reserve(Self.handshakeMemory, for: .handshake) {
            // Where this loop has none that could make room, one more is no harm.
            table.makeRoomForHandshake()
            reserveAnyway(Self.handshakeMemory, for: .handshake)
        }
        guard let context = listener.service.guards.certificates?.context, transport.beginTLS(context) else {
            close()
            return false
        }
        table.beganHandshake(self)
        return true
    }

    var isShakingHands: Bool { if case .handshake = phase { true } else { false } }

    // MARK: Room for beginnings

    /// Takes room of `max_in_flight_bytes` for what is kept before a body begins.
    func reserve(_ bytes: Int, for kind: BodyBudget.Beginning) -> Bool {
        guard listener.bodies.take(bytes, for: kind) else { return false }
        reserved = (bytes, kind)
        return true
    }

    private func reserveAnyway(_ bytes: Int, for kind: BodyBudget.Beginning) {
        listener.bodies.add(bytes, for: kind)
        reserved = (bytes, kind)
    }

    func releaseReserved() {
        listener.bodies.release(reserved.bytes, of: reserved.kind)
        reserved.bytes = 0
    }

    func takePending() -> [UInt8] {
        defer { pending = [] }
        releaseReserved()
        return pending
    }

    /// Keeps bytes that cannot be worked through yet, where there is room for them.
    func keep(_ input: ArraySlice<UInt8>) {
        guard reserve(input.count, for: .head) else { return dropPending() }
        pending = Array(input)
    }

    /// Ends with what has come so far: a request that has not begun is not missed, for nobody has promised to read it.
    func dropPending() {
        switch phase {
        case .waiting, .writing: keepsAlive = false
        default: refuse(.error(503, "no room for what has come of the request: max_in_flight_bytes is in use"))
        }
    }

    // MARK: The client's certificate

    /// Closes the connection when it has no request and its client could not shake hands any more.
    ///
    /// - Parameter mayVerify: whether there is time to verify its certificate again.
    /// - Returns: true when that was done.
    func closeIfOutdated(mayVerify: Bool) -> Bool {
        guard case .head = phase, !hasBegun, !isClosed else { return false }
        let mustVerify = transport.isOutdated(under: listener.service.guards.certificates?.context)
        guard mayVerify || !mustVerify else { return false }
        if objection != nil { close() }
        return mustVerify
    }

    private var objection: String? {
        transport.objection(under: listener.service.guards.certificates?.context, at: MonotonicTime.unixNanoseconds / 1_000_000_000)
    }

    // MARK: Head

    func begin(_ head: RequestHead, hasMore: Bool) {
        self.head = head
        self.head.peer = peer
        requestNumber &+= 1
        keepsAlive = head.keepsAlive && !table.isDraining
        service = listener.service
        // The sender comes again, and shows what it has now.
        if let objection { return refuse(.error(503, "\(objection); connect again")) }
        switch service.guards.access?.judge(self.head, hasCertificate: transport.hasVerifiedCertificate) ?? .allowed {
        case .allowed: admit(hasMore: hasMore)
        case .refused(let response): refuseBody(response)
        case .unsettled(let credentials): verify(credentials)
        }
    }

    private func admit(hasMore: Bool) {
        switch service.routes.admit(head) {
        case .refuse(let response): refuseBody(response)
        case .receive(let reception):
            self.reception = reception
            beginBody(reception)
            if case .body = phase, head.expectsContinue, !hasMore { sendContinue() }
        }
    }

    /// RFC 9110 §10.1.1: the client holds its body back until it hears this.
    private func sendContinue() {
        let interim = Array("HTTP/1.1 100 Continue\r\n\r\n".utf8)
        // There is room for it unless the client has not read its earlier answers.
        if transport.send(interim, from: 0) != .done(interim.count) { close() }
    }

    // MARK: Credentials

    /// Lets another thread look at credentials that were not seen before; the body stays in the kernel meanwhile.
    private func verify(_ credentials: Credentials) {
        phase = .verifying
        let (loop, key, request) = (table.loop, key, requestNumber)
        service.guards.access?.verify(credentials, from: peer) { verdict in
            loop.post { table in table.connection(key)?.verified(request: request, verdict) }
        }
    }

    private func verified(request: UInt32, _ verdict: AccessControl.Verdict) {
        guard case .verifying = phase, request == requestNumber else { return }
        // As it was when the head was read: what follows decides the next phase by itself.
        phase = .head
        switch verdict {
        case .refused(let response): refuseBody(response)
        case .allowed, .unsettled: admit(hasMore: !pending.isEmpty)
        }
        resumeReading()
    }

    /// Answers a request whose body nobody wants; a short body is read past first, so that the connection stays.
    private func refuseBody(_ response: Response) {
        guard let length = head.framing.announced, length <= Self.discardLimit, !head.expectsContinue else { return refuse(response) }
        discard(response, left: length)
    }

    /// Reads past so many bytes of a body, then answers; nothing of it is kept.
    func discard(_ response: Response, left: Int) {
        if left > 0 { phase = .discarding(response, left: left) } else { respond(response) }
    }
}
