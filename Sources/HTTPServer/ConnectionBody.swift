import LinuxSystem
import Telemetry

/// How a connection receives the body of a request.
extension Connection {
    func beginBody(_ handler: any RequestHandler) {
        do throws(RequestBody.Refusal) {
            incoming = try IncomingBody(request.head.framing, for: handler, listener.bodies, key, now: table.now)
            phase = .body(handler)
            if incoming?.isComplete == true { finishBody(handler) }
        } catch { refuse(response(to: error, handler)) }
    }

    /// - Returns: the bytes after the body.
    func consumeBody(_ received: ArraySlice<UInt8>, _ handler: any RequestHandler) -> ArraySlice<UInt8> {
        do throws(RequestBody.Refusal) {
            guard let (end, refusal) = try incoming?.append(received, handler) else { return [] }
            guard goesOn(handler, refusal) else { return [] }
            return received[end...]
        } catch {
            refuse(response(to: error, handler))
            return []
        }
    }

    private func response(to refusal: RequestBody.Refusal, _ handler: any RequestHandler) -> Response {
        switch refusal {
        case .tooLarge: handler.tooLarge(request.head.framing.announced)
        case .malformed(let what): .error(400, "\(what) in the request body")
        case .noRoom: .error(503, "no memory for the request body")
        }
    }

    /// Reads a body straight into its own storage.
    func receiveBody(_ handler: any RequestHandler) {
        guard incoming?.hasRoom == true else { return pause(handler) }
        do throws(RequestBody.Refusal) {
            guard let (transfer, refusal) = try incoming?.receive(from: transport, handler) else { return }
            switch transfer {
            case .wouldBlock: waitToReceive()
            case .failed, .done(0): close()
            case .done: _ = goesOn(handler, refusal)
            }
        } catch { refuse(response(to: error, handler)) }
    }

    /// Refuses the request, where its handler does, or hands the body over when it is complete.
    ///
    /// - Returns: false when the request was refused.
    private func goesOn(_ handler: any RequestHandler, _ refusal: Response?) -> Bool {
        if let refusal {
            refuse(refusal)
            return false
        }
        if incoming?.isComplete == true { finishBody(handler) }
        return true
    }

    // MARK: Waiting for room

    /// Leaves the rest of a body in the kernel until there is room.
    func pause(_ handler: any RequestHandler) {
        phase = .paused(handler)
        incoming?.readingPauses()
        set([])
        table.pause(self)
    }

    /// Tries again to read a body that had to wait for room.
    func resume() {
        guard case .paused(let handler) = phase else { return }
        // Most that wait find no room yet, and cost no system call then.
        guard incoming?.hasRoom == true else { return table.pause(self) }
        phase = .body(handler)
        incoming?.readingGoesOn(table.now)
        continueReading()
        readAgainIfUnread()
    }

    // MARK: The whole body

    private func finishBody(_ handler: any RequestHandler) {
        guard let content = incoming?.takeContent() else { return }
        listener.counters.bytes.add(content.count)
        phase = .waiting(handler)
        let writeTimeout = request.service.http.writeTimeout
        deadline = table.now + min(writeTimeout, handler.timeLimit ?? writeTimeout)
        table.expect(deadline)
        let reply = Reply(loop: table.loop, connection: key, request: request.number)
        var whole: ByteBuffer? = content
        let response = table.loop.handOver(key, request: request.number) {
            if let content = whole.take() { handler.answer(content, reply) }
        }
        if let response { respond(response) }
    }
}
