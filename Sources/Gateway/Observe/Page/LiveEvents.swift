import HTTPServer
import LinuxSystem
import Synchronization

/// The server-sent events that keep open pages up to date.
///
/// Each event replaces one part of the page, and is made once for all pages. Nothing is made while no page is open.
final class LiveEvents: Sendable {
    /// The most bytes that wait for one page; one that is further behind is disconnected, and connects again.
    private static let room = 2 << 20
    /// A part that is larger gets no updates.
    private static let largestPart = 1 << 20
    /// A page that has been connected for so long has to connect again, and so to show its credentials.
    private static let longestTime = Duration.seconds(600)
    /// How often something is sent at least, so that a page that has gone is noticed.
    private static let heartbeat = Duration.seconds(15)

    private struct Stream {
        weak var feed: Response.Feed?
        let since: MonotonicTime
        var hasAll = false
    }

    private struct State {
        var streams: [Stream] = []
        /// What was sent last of each part.
        var sent: [String: String] = [:]
        var sentAt = MonotonicTime.now
        var isStopped = false
    }

    /// The answer without any event.
    static var head: Response { Response(status: 200, headers: PageFrame.headers("text/event-stream")) }

    /// The pages that get updates at a time.
    private let places = Places(16)
    private let state = Mutex(State())

    /// Whether no page is connected.
    var isIdle: Bool { places.areFree }

    /// Whether a page is connected that has got nothing yet.
    var hasNew: Bool { state.withLock { $0.streams.contains { !$0.hasAll && $0.feed != nil } } }

    /// The answer to a page that wants updates.
    func answer() -> Response {
        guard places.take() else { return .error(503, "\(places.most) pages get updates already") }
        let feed = Response.Feed(room: Self.room) { [places] in places.giveBack() }
        feed.send(Array("retry: 2000\n\n".utf8))
        let isStopped = state.withLock { state in
            state.streams.removeAll { $0.feed == nil }
            state.streams.append(Stream(feed: feed, since: .now))
            return state.isStopped
        }
        if isStopped { return .error(503, "the gateway is shutting down") }
        var response = Self.head
        response.feed = feed
        return response
    }

    /// Sends the parts that have changed, and all of them to pages that have just connected.
    ///
    /// - Parameters:
    ///   - parts: those that may have changed.
    ///   - isComplete: whether these are all parts, as is needed while ``hasNew``.
    func send(_ parts: [(id: String, html: HTML)], isComplete: Bool, now: MonotonicTime) {
        state.withLock { state in
            var (changed, all): ([UInt8], [UInt8]) = ([], [])
            let hasNew = isComplete && state.streams.contains { !$0.hasAll }
            for part in parts where part.html.text.utf8.count <= Self.largestPart {
                let isChanged = state.sent[part.id] != part.html.text
                guard isChanged || hasNew else { continue }
                let event = "event: \(part.id)\ndata: \(part.html.text)\n\n".utf8
                if isChanged { changed += event }
                if hasNew { all += event }
                state.sent[part.id] = part.html.text
            }
            if changed.isEmpty, now >= state.sentAt + Self.heartbeat { changed = Array(":\n\n".utf8) }
            if !changed.isEmpty { state.sentAt = now }
            for index in state.streams.indices {
                guard let feed = state.streams[index].feed else { continue }
                let bytes = state.streams[index].hasAll ? changed : all
                if hasNew { state.streams[index].hasAll = true }
                if !bytes.isEmpty { feed.send(bytes) }
                if now >= state.streams[index].since + Self.longestTime { feed.end() }
            }
            state.streams.removeAll { $0.feed == nil }
        }
    }

    /// Ends all streams; pages connect again while the gateway runs.
    func endAll() {
        for stream in state.withLock({ $0.streams }) { stream.feed?.end() }
    }

    /// Ends all streams for good.
    func stop() {
        state.withLock { $0.isStopped = true }
        endAll()
    }
}
