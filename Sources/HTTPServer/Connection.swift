import LinuxSystem

/// One connection: a state machine that its event loop drives; nothing in it blocks.
///
///     (handshake ─►) head (─► verifying) ─► body ─► waiting ─► writing ─► head …     (or ─► lingering ─► closed)
///                      └────────────────► discarding ────────────▲
final class Connection {
    enum Phase {
        /// The TLS handshake is under way.
        case handshake
        /// Waiting for a request, or in the middle of its head.
        case head
        /// Another thread verifies the request's credentials.
        case verifying
        case body
        /// `left` bytes of a refused body are still to be read and discarded, so that the connection can be kept; then the
        /// response is sent.
        case discarding(Response, left: Int)
        /// The answer will come later, through a ``Reply``.
        case waiting
        /// The answer is being sent.
        case writing
        /// Sending has ended. Further input is read and discarded, because closing with unread input would reset the connection
        /// and could destroy the answer.
        case lingering

        var isWriting: Bool { if case .writing = self { true } else { false } }
    }

    /// The largest refused body that is read and discarded; for a larger one the connection is closed.
    static let discardLimit = 256 * 1024
    /// The most bytes of one read before a body's size is known: enough for a head and a small body. The rest of a larger body is
    /// read straight into its own storage.
    static let headRead = 16 * 1024
    /// The most bytes of one read while there is no room for bodies: a body's first bytes arrive with its head, so little is read
    /// of both.
    static let smallRead = 1024
    static let lingerTime = Duration.seconds(2)

    let key: ConnectionKey
    let peer: PeerAddress
    let listener: Listener
    /// The service that handles the current request; taken from the listener when the request's head is complete.
    var service: Listener.Service
    /// The limit for which the connection is answered 503; nil when it is served.
    let limit: SenderLimit?
    let age: ConnectionAge
    unowned let table: ConnectionTable
    /// Its links in the table's list of idle connections.
    var idleLinks = IdleLinks()

    var transport: Transport
    var phase: Phase
    var deadline: MonotonicTime
    var pending: [UInt8] = []
    /// The memory that it has reserved, for its handshake or for `pending`.
    var reserved = (bytes: 0, kind: BodyBudget.Beginning.handshake)
    private var scanned = 0
    var hasBegun = false
    var head = RequestHead()
    var body: RequestBody?
    var handler: (any RequestHandler)?
    var held = 0
    /// The senders whose memory its body takes, while it has a body.
    var senders: [BodyBudget.Sender] = []
    /// The pace of its body, while it has one that is being read.
    var pace: BodyPace?
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
        // Where TLS is spoken, a connection over a limit is closed instead; TLS may have been turned on since that was decided.
        phase = limit != nil || listener.service.guards.certificates == nil ? .head : .handshake
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

    /// Starts serving a connection that was just accepted.
    func start() {
        // The TLS hello may have arrived already; the poller reports it, and the connection then waits for its turn.
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

    /// Asks for another turn when TLS holds received bytes, which the poller does not see.
    func readAgainIfUnread() {
        if !isClosed, interest == .readable, transport.hasUnread { table.readAgain(self) }
    }

    private func readable(isHangup: Bool) {
        switch phase {
        case _ where isHangup && isPaused: close()
        case .verifying, .waiting, .writing:
            // The next request can wait in the kernel. A peer that has hung up cannot be answered.
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

    /// Waits for the socket event that receiving needs next.
    func waitToReceive() { set(transport.readWantsWritable ? .writable : .readable) }

    func continueReading() {
        set(.readable)
        readable(isHangup: false)
    }

    /// Reads the available bytes into the table's scratch buffer and processes them.
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

    /// Whether more may be read now: a body needs room in `max_in_flight_bytes`.
    var mayReceive: Bool {
        switch phase {
        case .body: listener.bodies.allows(key, senders)
        case .handshake, .head, .verifying, .discarding, .waiting, .writing, .lingering: true
        }
    }

    /// Leaves the rest of a body in the kernel until there is room.
    func pause() {
        isPaused = true
        // The pause is not the sender's fault, so it does not count as a slow pace.
        pace = nil
        set([])
        table.pause(self)
    }

    func consumePending() {
        let input = takePending()
        consume(input[...])
    }

    /// Processes received bytes until they run out or an answer has to be sent first.
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

    /// - Returns: the bytes after the head; nil when the head is incomplete and its bytes were kept, or when it was refused.
    private func consumeHead(_ input: ArraySlice<UInt8>) -> ArraySlice<UInt8>? {
        // The read timeout runs from the first byte of a request; for the first request, from the start of the connection.
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
}
