import LinuxSystem

/// What stands before a request's body: TLS, credentials, and whether the body is wanted.
extension Connection {
    func handshake() {
        switch transport.handshake() {
        case .done:
            phase = .head
            set(.readable)
            if !isAdmitted { refuseForLimit() }
        case .wantsReadable: set(.readable)
        case .wantsWritable: set(.writable)
        case .gone: close()
        case .plainHTTP:
            listener.counters.failedHandshakes.add()
            transport.fallBackToPlain()
            refuse(.error(400, "this listener speaks HTTPS; the request came without TLS"))
        case .failed(let reason):
            listener.counters.failedHandshakes.add()
            Log.debug("TLS handshake failed", ["listener": listener.name, "reason": reason])
            close()
        }
    }

    // MARK: Head

    func begin(_ head: RequestHead, hasMore: Bool) {
        self.head = head
        self.head.peer = peer
        requestNumber &+= 1
        keepsAlive = head.keepsAlive && !table.isDraining
        service = listener.service
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
