import LinuxSystem

/// The body of a request while it arrives, and the memory that it takes of `max_in_flight_bytes`, until the request is answered.
struct IncomingBody: ~Copyable {
    private var body: RequestBody
    private let budget: BodyBudget
    private let connection: ConnectionKey
    private let senders: [BodyBudget.Sender]
    private var held = 0
    /// nil while the body is not read, which is not the sender's fault.
    private var pace: BodyRate?

    /// - Throws: when the body's announced size is too large; no memory is taken then.
    init(
        _ framing: RequestHead.Framing, for handler: any RequestHandler, _ budget: BodyBudget, _ connection: ConnectionKey,
        now: MonotonicTime
    ) throws(RequestBody.Refusal) {
        body = try RequestBody(framing, limit: handler.bodyLimit)
        (self.budget, self.connection) = (budget, connection)
        senders = budget.join(handler.senders)
        pace = BodyRate(since: now, bytes: 0)
    }

    deinit {
        budget.release(held, senders, connection)
        budget.leave(senders)
    }

    var isComplete: Bool { body.isComplete }
    /// The number of bytes that can be received straight into the body's own storage.
    var directBytes: Int { body.directBytes }
    /// Whether there is room to read more of it.
    var hasRoom: Bool { budget.allows(connection, senders) }

    /// Appends received bytes.
    ///
    /// - Returns: the index after the last byte that belongs to this body, and the handler's refusal, if it refuses to go on.
    mutating func append(
        _ input: ArraySlice<UInt8>, _ handler: any RequestHandler
    ) throws(RequestBody.Refusal) -> (end: Int, refusal: Response?) {
        let before = body.content.count
        let end = try body.append(input)
        return (end, hold(body.content.count - before, handler))
    }

    /// Receives from a connection straight into the body's own storage.
    mutating func receive(
        from transport: borrowing Transport, _ handler: any RequestHandler
    ) throws(RequestBody.Refusal) -> (transfer: Transfer, refusal: Response?) {
        let transfer = try body.receive(from: transport)
        guard case .done(let count) = transfer, count > 0 else { return (transfer, nil) }
        return (transfer, hold(count, handler))
    }

    /// Counts received bytes of the body.
    private mutating func hold(_ count: Int, _ handler: any RequestHandler) -> Response? {
        held += count
        budget.add(count, senders)
        return body.withLast(count) { handler.received($0) }
    }

    /// Removes and returns the whole body; the memory stays counted.
    mutating func takeContent() -> ByteBuffer { body.take() }

    // MARK: Pace

    mutating func readingPauses() { pace = nil }
    mutating func readingGoesOn(_ now: MonotonicTime) { pace = BodyRate(since: now, bytes: held) }

    /// Whether it arrives with fewer than `rate` bytes a second.
    mutating func isTooSlow(_ now: MonotonicTime, rate: Int) -> Bool { pace?.isTooSlow(now, bytes: held, rate: rate) == true }
}
