import LinuxSystem
import Telemetry

/// How a connection answers and closes.
extension Connection {
    // MARK: Answer

    /// Sends an answer that was promised for later; an answer to any other request is ignored.
    func reply(request: UInt32, _ response: Response) {
        guard case .waiting = phase, request == requestNumber else { return }
        respond(response)
        if case .head = phase { resumeReading() }
    }

    /// Answers, then closes the connection, because it is not known where a next request would begin.
    func refuse(_ response: Response) {
        body = nil
        keepsAlive = false
        respond(response)
    }

    func respond(_ response: Response) {
        table.becameBusy(self)
        releaseHeld()
        handler = nil
        isPaused = false
        if table.isDraining || listener.isClosing || age.isOver(service.http.maximumConnectionAge, now: table.now) { keepsAlive = false }
        let outcome = response.outcome ?? response.status
        listener.counters.answered(outcome)
        if outcome >= 400 {
            Log.debug(
                "request refused",
                [
                    "listener": listener.name, "status": "\(outcome)",
                    "reason": String(decoding: response.body.prefix(512), as: UTF8.self),
                ])
        }
        output = response.serialized(
            date: table.currentDate(), keepAlive: keepsAlive, minorVersion: head.minorVersion,
            withBody: !head.equals(head.method, "HEAD"))
        sent = 0
        phase = .writing
        deadline = table.now + service.http.writeTimeout
        write()
    }

    func write() {
        while sent < output.count {
            switch transport.send(output, from: sent) {
            case .done(let count): sent += count
            case .wouldBlock: return set(.writable)
            case .failed: return close()
            }
        }
        output = []
        finishAnswer()
    }

    private func finishAnswer() {
        guard keepsAlive else { return linger() }
        phase = .head
        head = RequestHead()
        hasBegun = false
        deadline = table.now + service.http.idleTimeout
        table.becameIdle(self, .kept)
        if interest == .writable {
            set(.readable)
            if !pending.isEmpty { consumePending() }
        }
    }

    /// Stops sending, and closes only later, so that the peer gets the answer: closing with unread input would reset the
    /// connection.
    private func linger() {
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
            case .all: "conn_limit is \(service.http.connLimit)"
            case .perAddress: "conn_limit_per_address is \(service.http.connLimitPerAddress)"
            case .descriptors: "the limit of open descriptors allows no more"
            }
        refuse(.error(503, "too many connections: \(reason)"))
    }

    func checkDeadline(_ now: MonotonicTime) {
        if case .body = phase, isBodyTooSlow(now) { return refuse(.error(408, "the request body comes more slowly than min_body_rate")) }
        guard now >= deadline else { return }
        switch phase {
        case .handshake:
            listener.counters.failedHandshakes.add()
            close()
        case _ where isPaused:
            refuse(.error(503, "no room for the request body: max_in_flight_bytes is in use"))
        case .head where pending.isEmpty: close()
        case .head, .body, .discarding:
            refuse(.error(408, "the request took longer than server_read_timeout"))
        case .verifying: refuse(.error(503, "the credentials could not be verified in time"))
        case .waiting: giveUpWaiting()
        case .writing, .lingering: close()
        }
    }

    /// Answers a request whose outcome has not come in time.
    private func giveUpWaiting() {
        reply(request: requestNumber, handler?.giveUp(.timeout) ?? .error(504, "the answer did not come in time"))
    }

    /// Closes a connection that has no request; if a request has arrived but was not read yet, it is served instead.
    func closeIfIdle() {
        if case .handshake = phase { return close() }
        guard case .head = phase, pending.isEmpty else { return }
        receive()
        if !isClosed, case .head = phase, pending.isEmpty { close() }
    }

    /// Answers 503 to a request that is still arriving, or that waits for its answer and can still be given up.
    func refuse(because why: String) {
        switch phase {
        case .handshake: close()
        case .head, .verifying, .body, .discarding: refuse(.error(503, why))
        case .waiting:
            if let response = handler?.giveUp(.listenerEnds(why)) { refuse(response) }
        default: break
        }
    }

    func close() {
        guard !isClosed else { return }
        isClosed = true
        table.becameBusy(self)
        transport.prepareToClose()
        if case .waiting = phase { _ = handler?.giveUp(.disconnected) }
        releaseHeld()
        releaseReserved()
        body = nil
        if limit == nil { listener.release(peer) }
        listener.connectionEnded(wasAdmitted: limit == nil)
        table.remove(self)
    }
}
