import LinuxSystem
import Telemetry

/// How a connection receives the body of a request.
extension Connection {
    func beginBody(_ handler: any RequestHandler) {
        do throws(RequestBody.Refusal) {
            body = try RequestBody(head.framing, limit: handler.bodyLimit)
            phase = .body
            senders = listener.bodies.join(handler.senders)
            pace = BodyPace(since: table.now, bytes: 0)
            if body?.isComplete == true { finishBody() }
        } catch { refuse(response(to: error)) }
    }

    /// - Returns: the bytes after the body.
    func consumeBody(_ input: ArraySlice<UInt8>) -> ArraySlice<UInt8> {
        do throws(RequestBody.Refusal) {
            let before = body?.content.count ?? 0
            guard let end = try body?.append(input) else { return [] }
            guard hold((body?.content.count ?? 0) - before) else { return [] }
            if body?.isComplete == true { finishBody() }
            return input[end...]
        } catch {
            refuse(response(to: error))
            return []
        }
    }

    private func response(to refusal: RequestBody.Refusal) -> Response {
        switch refusal {
        case .tooLarge: handler?.tooLarge(head.framing.announced) ?? .error(413, "the request body is too large")
        case .malformed(let what): .error(400, "\(what) in the request body")
        case .noRoom: .error(503, "no memory for the request body")
        }
    }

    /// Reads a body straight into its own storage.
    func receiveBody() {
        guard mayReceive else { return pause() }
        do throws(RequestBody.Refusal) {
            guard let result = try body?.receive(from: transport) else { return }
            switch result {
            case .wouldBlock: waitToReceive()
            case .failed, .done(0): close()
            case .done(let count):
                if hold(count), body?.isComplete == true { finishBody() }
            }
        } catch { refuse(response(to: error)) }
    }

    /// Resumes reading, beginning with the bytes that were kept meanwhile.
    func resumeReading() {
        guard !isClosed, !phase.isWriting else { return }
        set(.readable)
        if !pending.isEmpty { consumePending() }
        readAgainIfUnread()
    }

    /// Tries again to read a body that had to wait for room.
    func resume() {
        guard isPaused else { return }
        isPaused = false
        pace = BodyPace(since: table.now, bytes: held)
        continueReading()
        readAgainIfUnread()
    }

    /// Whether its body arrives more slowly than `min_body_rate`.
    func isBodyTooSlow(_ now: MonotonicTime) -> Bool {
        pace?.isTooSlow(now, bytes: held, rate: service.http.minimumBodyRate) == true
    }

    /// Counts received bytes of the body.
    ///
    /// - Returns: false when they exceed the sender's rate; the request has been refused then.
    private func hold(_ bytes: Int) -> Bool {
        held += bytes
        listener.bodies.add(bytes, senders)
        guard let handler, let refusal = body?.withLast(bytes, { handler.received($0) }) else { return true }
        refuse(refusal)
        return false
    }

    func releaseHeld() {
        listener.bodies.release(held, senders, key)
        listener.bodies.leave(senders)
        (held, senders, pace) = (0, [], nil)
    }

    private func finishBody() {
        guard let content = body.take()?.take(), let handler else { return }
        listener.counters.bytes.add(content.count)
        phase = .waiting
        deadline = table.now + min(service.http.writeTimeout, handler.timeLimit ?? service.http.writeTimeout)
        table.expect(deadline)
        let reply = Reply(loop: table.loop, connection: key, request: requestNumber)
        var whole: ByteBuffer? = content
        let response = table.loop.handOver(key, request: requestNumber) {
            if let content = whole.take() { handler.answer(content, reply) }
        }
        if let response { respond(response) }
    }
}
