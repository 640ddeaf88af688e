import LinuxSystem
import Telemetry

/// How a connection answers and closes.
extension Connection {
    // MARK: Answer

    /// Sends an answer that was promised for later; an answer to any other request is ignored.
    func reply(request number: UInt32, _ response: Response) {
        guard case .waiting = phase, number == request.number else { return }
        respond(response)
        if case .head = phase { resumeReading() }
    }

    /// Answers, then closes the connection, because it is not known where a next request would begin.
    func refuse(_ response: Response) {
        request.keepsAlive = false
        respond(response)
    }

    func respond(_ response: Response) {
        table.becameBusy(self)
        incoming = nil
        let http = request.service.http
        if table.isDraining || listener.isClosing || age.isOver(http.maximumConnectionAge, now: table.now) { request.keepsAlive = false }
        let outcome = response.outcome ?? response.status
        listener.counters.answered(outcome)
        if outcome >= 400 { logRefusal(outcome, response) }
        let wantsBody = !request.head.isHEAD
        if let feed = response.feed, wantsBody { return respond(response, with: feed) }
        answer.begin(
            response.serialized(
                date: table.date.current(), keepAlive: request.keepsAlive, minorVersion: request.head.minorVersion, withBody: wantsBody))
        phase = .writing
        deadline = table.now + http.writeTimeout
        write()
    }

    func write() {
        // The other loops are told before the answer leaves: a sender that has its answer may open a connection on one of them,
        // which then has to know that this one is idle, and since when.
        if request.keepsAlive { table.becameIdle(self, .kept) }
        switch answer.write(to: transport) {
        case .done: finishAnswer()
        case .blocked:
            table.becameBusy(self)
            set(.writable)
        case .failed: close()
        }
    }

    private func finishAnswer() {
        guard request.keepsAlive else { return linger() }
        phase = .head
        request.head = RequestHead(peer: peer, peerText: request.isForwarded ? peer.address : request.head.peerText)
        request.isForwarded = false
        input.requestEnded()
        deadline = table.now + request.service.http.idleTimeout
        if interest == .writable {
            set(.readable)
            if !input.isEmpty { consumeInput() }
        }
    }

    /// Stops sending, and closes only later, so that the peer gets the answer: closing with unread input would reset the
    /// connection.
    func linger() {
        transport.finishSending()
        phase = .lingering
        deadline = table.now + Self.lingerTime
        set(.readable)
    }

    // MARK: End

    /// Answers 503 to a connection that exceeds a limit.
    func refuse(for limit: SenderLimit) {
        let reason =
            switch limit {
            case .all: "conn_limit is \(request.service.http.connLimit)"
            case .perAddress: "conn_limit_per_address is \(request.service.http.connLimitPerAddress)"
            case .descriptors: "the limit of open descriptors allows no more"
            }
        refuse(.error(503, "too many connections: \(reason)"))
    }

    func checkDeadline(_ now: MonotonicTime) {
        if case .body = phase, incoming?.isTooSlow(now, rate: request.service.http.minimumBodyRate) == true {
            return refuse(.error(408, "the request body comes more slowly than min_body_rate"))
        }
        guard now >= deadline else { return }
        switch phase {
        case .proxyHeader where isLeaving, .handshake where isLeaving: close()
        case .proxyHeader: refuseProxyHeader("it did not come within server_read_timeout")
        case .handshake:
            listener.counters.failedHandshakes.add()
            logMistake(.tls, "TLS handshake failed", "it took longer than server_read_timeout")
            close()
        case .paused:
            refuse(.error(503, "no room for the request body: max_in_flight_bytes is in use"))
        // The whole process may have stood still, and a request have arrived meanwhile.
        case .head where !input.hasBegun: closeIfIdle()
        case .head, .body, .discarding:
            refuse(.error(408, "the request took longer than server_read_timeout"))
        case .verifying: refuse(.error(503, "the credentials could not be verified in time"))
        case .waiting(let handler):
            // Something has to be answered now, whatever the handler says.
            reply(request: request.number, handler.giveUp(.timeout) ?? .error(504, "the answer did not come in time"))
        case .writing, .feeding, .lingering: close()
        }
    }

    /// Closes a connection that has no request; if a request has arrived but was not read yet, it is served instead.
    func closeIfIdle() {
        switch phase {
        case .proxyHeader, .handshake, .feeding: return close()
        case .head where !input.hasBegun: break
        default: return
        }
        receive()
        if !isClosed, case .head = phase, !input.hasBegun { close() }
    }

    /// Whether no request is to begin any more, but for one that is on its way.
    var isLeaving: Bool { listener.isClosing || table.isDraining }

    /// Has a connection close whose listener ends: at once when it has no request.
    ///
    /// A client that has just connected gets a moment for its first request, which may be on its way, and which many clients do not send
    /// again when a new connection ends without an answer.
    func leave() {
        let end = age.began + Self.firstRequestTime
        let isNew =
            switch phase {
            case .proxyHeader, .handshake: true
            case .head: request.number == 0 && !input.hasBegun
            default: false
            }
        guard isNew, limit == nil, table.now < end else { return closeIfIdle() }
        deadline = min(deadline, end)
        table.expect(deadline)
    }

    /// Answers 503 to a request that is still arriving, or that waits for its answer and can still be given up.
    func refuse(because why: String) {
        switch phase {
        case .proxyHeader, .handshake, .feeding: close()
        case .head, .verifying, .body, .paused, .discarding: refuse(.error(503, why))
        case .waiting(let handler):
            if let response = handler.giveUp(.listenerEnds(why)) { refuse(response) }
        default: break
        }
    }

    func close() {
        guard !isClosed else { return }
        isClosed = true
        table.becameBusy(self)
        transport.prepareToClose()
        if case .waiting(let handler) = phase { _ = handler.giveUp(.disconnected) }
        if case .feeding(let feed) = phase { feed.release() }
        incoming = nil
        releaseReserved()
        if limit == nil { listener.release(peer) }
        listener.connectionEnded(wasAdmitted: limit == nil)
        table.remove(self)
    }
}
