import LinuxSystem

/// One connection: a state machine that its event loop drives; nothing in it blocks.
///
///     (proxyHeader ─►) (handshake ─►) head (─► verifying) ─► body ⇄ paused, ─► waiting ─► writing ─► head …
///                                       └────────────────► discarding ─────────────────────▲    (or ─► feeding, lingering ─► closed)
final class Connection {
    enum Phase {
        /// The PROXY header has not come yet, or not whole.
        case proxyHeader
        /// The TLS handshake is under way.
        case handshake
        /// Waiting for a request, or in the middle of its head.
        case head
        /// Another thread verifies the request's credentials.
        case verifying
        case body(any RequestHandler)
        /// The rest of the body waits for room in `max_in_flight_bytes`.
        case paused(any RequestHandler)
        /// `left` bytes of a refused body are still to be read and discarded, so that the connection can be kept; then the
        /// response is sent.
        case discarding(Response, left: Int)
        /// The answer will come later, through a ``Reply``.
        case waiting(any RequestHandler)
        /// The answer is being sent.
        case writing
        /// An answer without an end is being sent.
        case feeding(Response.Feed)
        /// Sending has ended. Further input is read and discarded, because closing with unread input would reset the connection
        /// and could destroy the answer.
        case lingering

        var isWriting: Bool { if case .writing = self { true } else { false } }
    }

    /// The request that is being served.
    struct Request {
        /// Counts the connection's requests, so that a late answer to another one is recognized.
        var number: UInt32 = 0
        /// Whether the connection serves another request after this one.
        var keepsAlive = true
        /// Whether the head names another peer than the connection's, by X-Forwarded-For.
        var isForwarded = false
        /// Empty between requests, but for the peer.
        var head: RequestHead
        /// Taken from the listener when the head is complete.
        var service: Listener.Service
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
    /// How long after it was accepted the first request may come on a connection whose listener ends: a round trip, with a lost packet.
    static let firstRequestTime = Duration.seconds(1)

    // The order of what follows leaves few gaps: ten thousand connections may wait for their next request.

    let key: ConnectionKey
    let listener: Listener
    /// Whom the connection comes from: the socket's peer, or whom the PROXY header names.
    var peer: PeerAddress
    let age: ConnectionAge
    /// The table of the connection's loop; it refers to the connection until the connection is closed.
    let table: ConnectionTable
    /// Its links in the table's list of idle connections.
    var idleLinks = IdleLinks()

    var transport: Transport
    var phase: Phase
    var deadline: MonotonicTime
    var input = RequestInput()
    /// The kind of memory that ``reservedBytes`` counts.
    var reservedKind = BodyBudget.Beginning.handshake
    var isClosed = false
    /// The limit for which the connection is answered 503; nil when it is served.
    let limit: SenderLimit?
    /// The memory that it has reserved, for its handshake or for `input`.
    var reservedBytes: UInt32 = 0
    var interest = Poller.Interest.readable
    var request: Request
    /// The request's body, until the request is answered.
    var incoming: IncomingBody?
    var answer = AnswerWriter()

    init(
        _ transport: consuming Transport, from peer: PeerAddress, key: ConnectionKey, listener: Listener, table: ConnectionTable,
        refusedBy limit: SenderLimit?
    ) {
        // Where TLS is spoken, a connection over a limit is closed instead; TLS may have been turned on since that was decided.
        let service = listener.service
        phase = limit != nil ? .head : service.http.proxyProtocol ? .proxyHeader : service.security.certificates == nil ? .head : .handshake
        self.transport = transport
        self.key = key
        self.listener = listener
        self.peer = peer
        // The address in words is made once for all requests.
        request = Request(head: RequestHead(peer: peer, peerText: peer.address), service: service)
        self.table = table
        self.limit = limit
        age = ConnectionAge(since: table.now)
        deadline = table.now + request.service.http.readTimeout
    }

    // MARK: Readiness

    /// Starts serving a connection that was just accepted.
    func start() {
        // The TLS hello may have arrived already; the poller reports it, and the connection then waits for its turn.
        if case .handshake = phase { return }
        if awaitsProxyHeader { return beginProxyHeader() }
        if let limit { refuse(for: limit) } else { readable(isHangup: false) }
    }

    func ready(_ events: Poller.Interest) {
        if case .handshake = phase { return events.isDisjoint(with: .hangup) ? awaitTurn() : close() }
        if !events.isDisjoint(with: .writable) {
            if case .feeding(let feed) = phase { write(feed) } else if phase.isWriting { write() } else { continueReading() }
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
        case .verifying, .waiting, .writing, .paused:
            // The next request can wait in the kernel. A peer that has hung up cannot be answered.
            if isHangup { close() } else { set(phase.isWriting ? .writable : []) }
        case .body(let handler):
            if incoming?.directBytes ?? 0 > 0 { receiveBody(handler) } else { receive() }
        case .proxyHeader: readProxyHeader()
        case .handshake, .head, .discarding, .feeding, .lingering: receive()
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
        if case .body(let handler) = phase, incoming?.hasRoom == false { return pause(handler) }
        var scratch: [UInt8] = []
        swap(&scratch, &table.scratch)
        defer { swap(&scratch, &table.scratch) }
        switch transport.receive(into: &scratch, atMost: listener.bodies.hasRoom ? Self.headRead : Self.smallRead) {
        case .wouldBlock: waitToReceive()
        case .failed, .done(0): close()
        case .done(let count):
            if input.isEmpty { return consume(scratch[..<count]) }
            let received = takeInput() + scratch[..<count]
            consume(received[...])
        }
    }

    func consumeInput() {
        let received = takeInput()
        consume(received[...])
    }

    /// Resumes reading, beginning with the bytes that were kept meanwhile.
    func resumeReading() {
        guard !isClosed, !phase.isWriting else { return }
        set(.readable)
        if !input.isEmpty { consumeInput() }
        readAgainIfUnread()
    }

    /// Processes received bytes until they run out or an answer has to be sent first.
    private func consume(_ received: ArraySlice<UInt8>) {
        var received = received
        while !received.isEmpty, !isClosed {
            let count = received.count
            switch phase {
            case .head:
                guard let rest = consumeHead(received) else { return }
                received = rest
            case .body(let handler): received = consumeBody(received, handler)
            case .discarding(let response, let left):
                received = received.dropFirst(left)
                discard(response, left: left - (count - received.count))
            case .lingering: return
            // A client that says something in the middle of it does not want the rest.
            case .feeding: return close()
            case .proxyHeader, .handshake, .verifying, .paused, .waiting, .writing: return keep(received)
            }
        }
    }

    // MARK: Request

    /// - Returns: the bytes after the head; nil when the head is incomplete and its bytes were kept, or when it was refused.
    private func consumeHead(_ received: ArraySlice<UInt8>) -> ArraySlice<UInt8>? {
        // The read timeout runs from the first byte of a request; for the first request of a connection that stays, from its start.
        if !input.hasBegun {
            // RFC 9112 §2.2: some clients send an empty line after a body, which is no beginning of a request. It is kept to be counted.
            if received.areEmptyLines {
                if reserve(received.count, for: .head) { input.keep(Array(received)) }
                return nil
            }
            if request.number > 0 || isLeaving {
                deadline = table.now + listener.service.http.readTimeout
            }
        }
        table.becameBusy(self)
        do throws(RequestParser.Refusal) {
            input.requestBegan()
            switch try RequestParser.parse(received, scanned: Int(input.searchedBytes)) {
            case .incomplete:
                input.noteSearched(received.count)
                keep(received)
                return nil
            case .head(let head, let end):
                input.noteSearched(0)
                begin(head, hasMore: end < received.endIndex)
                return received[end...]
            }
        } catch {
            refuse(.error(error.status, error.message))
            return nil
        }
    }
}
