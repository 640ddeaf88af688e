import HTTPServer
import LinuxSystem
import Receivers
import Synchronization

/// The admin listener's page: its samples of the last 15 minutes, and its live updates.
final class GatewayPage: Sendable {
    private struct State {
        var samples = SampleRing()
        /// The counters at the newest sample and at the one before it; rates are computed since the earlier one.
        var marks: (before: Marks?, newest: Marks?)
        /// ``FanOut/Recent/changes`` when the recent profiles were last sent, and when that was.
        var recent = (changes: -1, at: MonotonicTime(nanoseconds: 0))
    }

    let live = LiveEvents()
    private let state = Mutex(State())

    /// More changes than these since the last update make updates of the recent profiles rare, because nobody can read them.
    private static let manyChanges = 400
    private static let rareUpdates = Duration.seconds(2)

    /// Takes a sample when one is due, and sends updates to the open pages; called periodically from one thread.
    func tick(_ gateway: RunningGateway) {
        let now = MonotonicTime.now
        let isDue = state.withLock { state in state.samples.last.map { now >= $0.at + SampleRing.interval } ?? true }
        if isDue { takeSample(Overview(gateway)) }
        guard !live.isIdle else { return }
        let (overview, hasNew) = (overview(gateway), live.hasNew)
        var parts: [(id: String, html: HTML)] = [
            ("summary", overview.summary), ("flow", FlowPicture(overview: overview).svg), ("listeners", overview.listenersTable),
            ("receivers", overview.receiversTable), ("process", overview.process),
        ]
        if isDue || hasNew { parts.append(("charts", charts)) }
        if isRecentDue(gateway.parts.recent, now) || hasNew { parts.append(("recent", recentTable(gateway, filter: "").html)) }
        live.send(parts, isComplete: hasNew, now: now)
    }

    private func takeSample(_ overview: Overview) {
        state.withLock { state in
            state.samples.add(overview.sample)
            state.marks = (state.marks.newest, overview.marks)
        }
    }

    private func isRecentDue(_ recent: FanOut.Recent, _ now: MonotonicTime) -> Bool {
        let changes = recent.changes
        return state.withLock { state in
            let isRare = changes - state.recent.changes > Self.manyChanges
            guard changes != state.recent.changes, !isRare || now >= state.recent.at + Self.rareUpdates else { return false }
            state.recent = (changes, now)
            return true
        }
    }

    /// What the gateway is like now, with the rates of the last 5 to 10 s.
    func overview(_ gateway: RunningGateway) -> Overview {
        var overview = Overview(gateway)
        let marks = state.withLock { $0.marks.before ?? $0.marks.newest }
        if let marks { overview.rate(since: marks) }
        return overview
    }

    private var charts: HTML { Charts.figures(state.withLock { $0.samples }.inOrder) }

    private func recentTable(_ gateway: RunningGateway, filter: String) -> RecentTable {
        let bounds = gateway.setup.withLock { $0.config.admin?.recent } ?? .none
        return RecentTable(entries: gateway.parts.recent.entries, bounds: bounds, filter: filter)
    }

    /// The whole page.
    ///
    /// - Parameter filter: the words that the recent profiles shown must contain.
    func answer(_ gateway: RunningGateway, filter: String) -> Response {
        let overview = overview(gateway)
        return PageFrame.answer(
            title: "Profile Gateway", isLive: true,
            """
            <h1>Overview</h1>
            <div id="summary" data-live role="status">\(overview.summary)</div>
            \(PageFrame.section("flow", "Flow", FlowPicture(overview: overview).svg))
            \(PageFrame.section("charts", "The last 15 minutes", charts))
            \(PageFrame.section("listeners", "Listeners", overview.listenersTable))
            \(PageFrame.section("receivers", "Receivers", overview.receiversTable))
            <section aria-labelledby="recent-heading">
            <h2 id="recent-heading">Recent profiles</h2>
            \(RecentTable.form(filter))
            <div id="recent" data-live>\(recentTable(gateway, filter: filter).html)</div>
            </section>
            \(PageFrame.section("process", "Gateway", overview.process))
            """)
    }
}
