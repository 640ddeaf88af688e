import CCurl
import Glibc
import LinuxSystem
import PushWire

/// One request after another by the writer's own client, which speaks HTTP/1.1 without TLS; on the thread of the transfers only.
///
/// It keeps what belongs to the request; ``PlainPool`` gives it a connection, and moves it on when the socket is ready.
@safe final class PlainExchange: Lane {
    /// The event that the request waits for; `finished` is for one that has ended and was not told of.
    enum Phase { case idle, limit, lookup, connection, answer, finished }

    var ended: () -> Void = {}
    var generation: ConnectionGeneration?
    private let route: PlainRoute
    private var head: [UInt8] = []
    private var body = unsafe UnsafeRawBufferPointer(start: nil, count: 0)
    /// The bytes of head and body, and how many of them are sent.
    private var (total, sent) = (0, 0)
    private var began: MonotonicTime?
    private(set) var cost = LaneCost()
    private(set) var deadline = MonotonicTime.never
    /// The time at which something must be done for the request, if nothing happens before.
    var due = MonotonicTime.never
    /// The place among the pool's running requests.
    var index = 0
    var phase = Phase.idle
    var connection: PlainConnection?
    /// The addresses that remain to be tried.
    var addresses: ArraySlice<SocketAddress> = []
    private var parser = AnswerParser(bodyLimit: UpstreamAnswer.bodyLimit)
    private(set) var answer = AnswerState()
    /// The requests before and after it in the queue in which it is.
    var links = (previous: PlainExchange?.none, next: PlainExchange?.none)
    /// Whether nothing more of the request is sent, because the answer is no success already, or it could not be sent.
    private(set) var hasStopped = false
    /// Whether the request must open a connection.
    private(set) var isFresh = false
    private var isStale = false
    private var excess: String?
    private(set) var failure: String?
    private var isDenied = false

    /// How far the answer has come, as the parser says.
    struct AnswerState {
        /// 0 before the status line has come.
        var status = 0
        var hasBegun = false
        var hasHead = false
        var isComplete = false
        /// Whether the connection may carry another request.
        var keepsAlive = false
    }

    init(_ route: PlainRoute) { self.route = route }

    // MARK: Request

    func prepare(_ request: borrowing LaneRequest) throws(WrittenHead.Refusal) {
        try route.write(request, into: &head)
        unsafe body = unsafe request.body
        total = unsafe head.count + body.count
        (deadline, began, isFresh, cost) = (request.deadline, nil, false, LaneCost())
        forget()
    }

    /// Forgets how far the request has come.
    private func forget() {
        (sent, hasStopped, isStale, excess, failure, isDenied, phase) = (0, false, false, nil, nil, false, .idle)
        parser.reset()
        answer = AnswerState()
    }

    func start(on connections: EndpointConnections, _ now: MonotonicTime) -> Bool {
        if began == nil { began = now }
        return connections.add(self, now)
    }

    func cancel() {
        generation?.plain?.cancel(self)
        letGo()
    }

    /// A request is sent again, once and on a new connection, when its connection had carried another one before and ended without a
    /// byte of an answer. That is what a server does that closes idle connections while a request is on its way to it.
    ///
    /// The server may have taken the request nevertheless, and hung up before it answered. libcurl repeats it all the same, and so
    /// does any browser: profiles are delivered at least once, as after any failed attempt, and a receiver would repeat it too.
    func repeats(hasRoom: Bool) -> Bool {
        guard hasRoom || isStale && !isFresh else { return false }
        if !hasRoom { isFresh = true }
        forget()
        return true
    }

    // MARK: Sending

    /// Whether nothing is left to be sent.
    var isSent: Bool { sent == total }

    /// Sends as much as the socket takes.
    func transmit(_ socket: Int32) -> LinuxSystem.Transfer {
        let result = unsafe Socket.send(socket, head, body, from: sent)
        if case .done(let count) = result {
            sent += count
            cost.wireBytes += count
        }
        return result
    }

    /// Notes that nothing more will be sent.
    func stopSending() { hasStopped = true }

    func noteConnected() { cost.openedConnections += 1 }

    // MARK: Receiving

    /// Whether the answer, once it is complete, counts: a success needs all of the request, any other answer does not.
    var isSettled: Bool { isSent || hasStopped && answer.status >= 300 }

    /// Receives what the socket has, by way of `buffer`, and reads it as the answer.
    ///
    /// - Returns: what was received, and whether some of it is not of this answer.
    func receive(
        _ connection: PlainConnection, into buffer: inout [UInt8]
    ) throws(AnswerParser.Failure) -> (received: LinuxSystem.Transfer, hasMore: Bool) {
        let received = connection.receive(into: &buffer)
        guard case .done(let count) = received, count > 0 else { return (received, false) }
        return (received, try take(buffer.span.extracting(..<count), &parser) < count)
    }

    /// Reads bytes, and notes all that is asked of the parser: each use of that one is checked at run time to be the only one.
    private func take(_ bytes: Span<UInt8>, _ parser: inout AnswerParser) throws(AnswerParser.Failure) -> Int {
        defer { note(parser) }
        return try parser.take(bytes)
    }

    /// Reads the end of the connection as that of the answer.
    func takeEnd() throws(AnswerParser.Failure) {
        try parser.takeEnd()
        note(parser)
    }

    private func note(_ parser: borrowing AnswerParser) {
        answer = AnswerState(
            status: parser.status, hasBegun: parser.hasBegun, hasHead: parser.hasHead, isComplete: parser.isComplete,
            keepsAlive: parser.keepsAlive)
    }

    // MARK: End

    /// Notes the end of the request; it is over once ``ended`` is called.
    func end(failure: String? = nil, isDenied: Bool = false, isStale: Bool = false) {
        (self.failure, self.isDenied, self.isStale) = (failure, isDenied, isStale)
        letGo()
    }

    /// Notes why the answer cannot be read on.
    func end(_ reason: AnswerParser.Failure) {
        if case .excess(let what) = reason { excess = what }
        failure = reason.words
        letGo()
    }

    private func letGo() {
        cost.nanoseconds = began.map { route.sockets.now.since($0).inNanoseconds } ?? 0
        (connection, addresses) = (nil, [])
    }

    /// Notes that its time is over.
    func endLate() {
        let what =
            switch phase {
            case .idle, .limit, .finished: "while waiting for a connection"
            case .lookup: "while looking up \(route.names.host)"
            case .connection: "while connecting to \(route.place)"
            case .answer: answer.hasBegun ? "in the middle of the answer" : isSent ? "without an answer" : "while sending"
            }
        end(failure: "timed out after \((began.map { deadline.since($0) } ?? .zero).inNanoseconds / 1_000_000) ms \(what)")
    }

    func makeResult() -> LaneResult { result(&parser) }

    private func result(_ parser: inout AnswerParser) -> LaneResult {
        let (status, texts) = (answer.status, parser.texts())
        return LaneResult(
            status: status, isWhole: failure == nil, excess: excess, failure: failure ?? "", isDenied: isDenied,
            isLost: failure != nil && !isDenied && status == 0 && excess == nil, body: parser.body, contentType: texts.contentType,
            redirect: 300...399 ~= status ? UpstreamURL.redirect(texts.location, from: route.url) : nil,
            retryAfter: Self.delay(texts.retryAfter))
    }

    /// The time that a Retry-After asks for: seconds, or a date in any of the forms that libcurl reads; zero for anything else.
    private static func delay(_ text: String) -> Duration {
        guard let first = text.utf8.first, first != UInt8(ascii: "-") else { return .zero }
        if let seconds = Int64(text.prefix { "0" <= $0 && $0 <= "9" }), seconds > 0 { return .seconds(seconds) }
        guard Libcurl.isUsable else { return .zero }
        let date = unsafe ccurl_getdate(text)
        return .seconds(max(0, date - time(nil)))
    }
}
