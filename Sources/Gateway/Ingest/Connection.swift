import LinuxSystem

/// One connection: a state machine that its event loop drives; nothing in it blocks.
///
///     (handshake ─►) head (─► verifying) ─► body ─► waiting ─► writing ─► head …     (or ─► lingering ─► closed)
///                      └────────────────► discarding ────────────▲
final class Connection {
    enum Phase {
        /// TLS is being agreed on.
        case handshake
        /// Waiting for a request, or in the middle of its head.
        case head
        /// Another thread looks whether the request's credentials are genuine.
        case verifying
        case body
        /// So much of a refused body is still to be read past, so that the connection can be kept; then comes this answer.
        case discarding(Response, left: Int)
        /// The answer will come later, through a reply.
        case waiting
        /// The answer is on its way out.
        case writing
        /// Nothing more is said; what the peer still sends is read past, so that closing does not reset our answer.
        case lingering

        var isWriting: Bool { if case .writing = self { true } else { false } }
    }

    /// A refused body up to this size is read past; for a longer one the connection closes instead.
    static let discardLimit = 256 * 1024
    /// Enough for a head and a small body; the rest of a larger one goes right into its own storage.
    static let headRead = 16 * 1024
    /// While there is no room for bodies: they come with their heads, so little is read of both.
    static let smallRead = 1024
    static let lingerTime = Duration.seconds(2)

    let key: ConnectionKey
    let peer: PeerAddress
    let listener: Listener
    /// What the request is served by, from its head on.
    var service: Listener.Service
    /// Why it is only told to come again; nil when it is served.
    let limit: SenderLimit?
    let age: ConnectionAge
    unowned let table: ConnectionTable
    /// Where it stands while it has no request.
    var idleLinks = IdleLinks()

    var transport: Transport
    var phase: Phase
    var deadline: MonotonicTime
    var pending: [UInt8] = []
    /// What it has of the room for beginnings: of its handshake, or of what is pending.
    var reserved = (bytes: 0, kind: BodyBudget.Beginning.handshake)
    private var scanned = 0
    var hasBegun = false
    var head = RequestHead()
    var body: RequestBody?
    var reception: Reception?
    var held = 0
    /// Whose memory its body takes, while there is one.
    private var senders: [BodyBudget.Sender] = []
    /// How quickly its body comes, while there is one and it is read.
    private var pace: BodyPace?
    var isPaused = false
    var requestNumber: UInt32 = 0
    var output: [UInt8] = []
    var sent = 0
    var keepsAlive = true
    var interest = Poller.Interest.readable
    var isClosed = false

    init(
        _ transport: consuming Transport, from peer: PeerAddress, key: ConnectionKey, listener: Listener, table: ConnectionTable,
        refusedBy limit: SenderLimit?
    ) {
        phase = listener.service.guards.certificates == nil ? .head : .handshake
        self.transport = transport
        self.peer = peer
        self.key = key
        self.listener = listener
        service = listener.service
        self.table = table
        self.limit = limit
        age = ConnectionAge(since: table.now)
        deadline = table.now + service.http.readTimeout
    }

    // MARK: Readiness

    /// Begins to serve a connection that was just accepted.
    func start() {
        // Its hello may be there already; the poller says so, and then it waits for its turn.
        if case .handshake = phase { return }
        if let limit { refuse(for: limit) } else { readable(isHangup: false) }
    }

    func ready(_ events: Poller.Interest) {
        if case .handshake = phase { return events.isDisjoint(with: .hangup) ? awaitTurn() : close() }
        if !events.isDisjoint(with: .writable) {
            if phase.isWriting { write() } else { continueReading() }
        }
        if !events.isDisjoint(with: [.readable, .hangup]), !isClosed { readable(isHangup: !events.isDisjoint(with: .hangup)) }
        readAgainIfUnread()
    }

    /// Asks for another turn when bytes wait where the poller does not see them.
    func readAgainIfUnread() {
        if !isClosed, interest == .readable, transport.hasUnread { table.readAgain(self) }
    }

    private func readable(isHangup: Bool) {
        switch phase {
        case _ where isHangup && isPaused: close()
        case .verifying, .waiting, .writing:
            // The next request can wait in the kernel. A peer that is gone cannot be answered.
            if isHangup { close() } else { set(phase.isWriting ? .writable : []) }
        case .body where (body?.directBytes ?? 0) > 0: receiveBody()
        default: receive()
        }
    }

    func set(_ new: Poller.Interest) {
        guard interest != new else { return }
        interest = new
        table.setInterest(new, of: self, transport.number)
    }

    /// Waits for what receiving needs next.
    private func waitToReceive() { set(transport.readWantsWritable ? .writable : .readable) }

    private func continueReading() {
        set(.readable)
        readable(isHangup: false)
    }

    /// Reads what is there into the loop's scratch and works through it.
    func receive() {
        guard mayReceive else { return pause() }
        var scratch: [UInt8] = []
        swap(&scratch, &table.scratch)
        defer { swap(&scratch, &table.scratch) }
        switch transport.receive(into: &scratch, atMost: listener.bodies.hasRoom ? Self.headRead : Self.smallRead) {
        case .wouldBlock: waitToReceive()
        case .failed, .done(0): close()
        case .done(let count):
            if pending.isEmpty { return consume(scratch[..<count]) }
            let input = takePending() + scratch[..<count]
            consume(input[...])
        }
    }

    /// Whether `max_in_flight_bytes` has room for what may come.
    private var mayReceive: Bool {
        switch phase {
        case .body: listener.bodies.allows(key, senders)
        case .handshake, .head, .verifying, .discarding, .waiting, .writing, .lingering: true
        }
    }

    /// Leaves what comes of a body in the kernel until there is room.
    private func pause() {
        isPaused = true
        // What the sender cannot help is not its pace.
        pace = nil
        set([])
        table.pause(self)
    }

    func consumePending() {
        let input = takePending()
        consume(input[...])
    }

    /// Works through received bytes until they run out or an answer has to go out first.
    private func consume(_ input: ArraySlice<UInt8>) {
        var input = input
        while !input.isEmpty, !isClosed {
            let count = input.count
            switch phase {
            case .head:
                guard let rest = consumeHead(input) else { return }
                input = rest
            case .body: input = consumeBody(input)
            case .discarding(let response, let left):
                input = input.dropFirst(left)
                discard(response, left: left - (count - input.count))
            case .lingering: return
            case .handshake, .verifying, .waiting, .writing: return keep(input)
            }
        }
    }

    // MARK: Request

    /// - Returns: what follows the head, or nil when it is not complete and its bytes were kept.
    private func consumeHead(_ input: ArraySlice<UInt8>) -> ArraySlice<UInt8>? {
        // The time for a request runs from its first byte; for the first one, from the connection's beginning.
        if !hasBegun, requestNumber > 0 { deadline = table.now + listener.service.http.readTimeout }
        hasBegun = true
        table.becameBusy(self)
        do throws(RequestParser.Refusal) {
            switch try RequestParser.parse(input, scanned: scanned) {
            case .incomplete:
                scanned = max(0, input.count - 3)
                keep(input)
                return nil
            case .head(let head, let end):
                scanned = 0
                begin(head, hasMore: end < input.endIndex)
                return input[end...]
            }
        } catch {
            refuse(.error(error.status, error.message))
            return nil
        }
    }

    // MARK: Body

    func beginBody(_ reception: Reception) {
        do throws(RequestBody.Refusal) {
            body = try RequestBody(head.framing, limit: reception.limit)
            phase = .body
            senders = listener.bodies.join(reception.senders)
            pace = BodyPace(since: table.now, bytes: 0)
            if body?.isComplete == true { finishBody() }
        } catch { refuse(response(to: error)) }
    }

    /// - Returns: what follows the body.
    private func consumeBody(_ input: ArraySlice<UInt8>) -> ArraySlice<UInt8> {
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
        case .tooLarge: reception?.tooLarge(head.framing.announced) ?? .error(413, "the request body is too large")
        case .malformed(let what): .error(400, "\(what) in the request body")
        case .noRoom: .error(503, "no memory for the request body")
        }
    }

    /// Reads a body right into its own storage.
    private func receiveBody() {
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

    /// Goes on with what has come while nothing could be read.
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

    /// Whether its body comes more slowly than `min_body_rate`.
    func isBodyTooSlow(_ now: MonotonicTime) -> Bool {
        pace?.isTooSlow(now, bytes: held, rate: service.http.minimumBodyRate) == true
    }

    /// Counts bytes of the body that have come.
    ///
    /// - Returns: false when they were too many, and were answered.
    private func hold(_ bytes: Int) -> Bool {
        held += bytes
        listener.bodies.add(bytes, senders)
        if let refusal = reception?.charge?(bytes) {
            refuse(refusal)
            return false
        }
        if let arrived = reception?.arrived { body?.withLast(bytes, arrived) }
        return true
    }

    func releaseHeld() {
        listener.bodies.release(held, senders, key)
        listener.bodies.leave(senders)
        (held, senders, pace) = (0, [], nil)
    }

    private func finishBody() {
        guard let content = body.take()?.take(), let reception else { return }
        listener.counters.bytes.add(content.count)
        phase = .waiting
        deadline = table.now + min(service.http.writeTimeout, reception.timeLimit ?? service.http.writeTimeout)
        table.expect(deadline)
        let reply = Reply(loop: table.loop, connection: key, request: requestNumber)
        if let response = reception.answer(content, reply) { respond(response) }
    }
}
