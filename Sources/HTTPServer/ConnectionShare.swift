import LinuxSystem
import Synchronization

/// The descriptors that connections may take, over several listeners and loops.
package final class ConnectionShare: Sendable {
    /// Whether a connection is served or only answered 503; each use has its own part of the share.
    enum Use: Sendable { case served, refused }

    private final class Part: Sendable {
        let limit = Atomic<Int>(.max)
        let used = Atomic<Int>(0)
    }

    private let served = Part()
    private let refused = Part()
    let idle = IdleBoard()
    private let loops = Mutex<[Int: EventLoop]>([:])

    package init() {}

    private func part(_ use: Use) -> Part { use == .served ? served : refused }

    /// The number of open connections.
    package var count: Int { served.used.load(ordering: .relaxed) + refused.used.load(ordering: .relaxed) }
    /// The most connections that can be served at a time.
    var room: Int { served.limit.load(ordering: .relaxed) }

    /// - Parameter refusals: the part of `limit` for connections that are only answered 503.
    package func change(limit: Int, refusals: Int) {
        served.limit.store(limit - refusals, ordering: .relaxed)
        refused.limit.store(refusals, ordering: .relaxed)
    }

    /// Counts one more connection; false when there is no room, and the connection is not counted then.
    func reserve(_ use: Use) -> Bool {
        let part = part(use)
        if part.used.wrappingAdd(1, ordering: .relaxed).newValue <= part.limit.load(ordering: .relaxed) { return true }
        release(use)
        return false
    }

    func release(_ use: Use) { part(use).used.wrappingSubtract(1, ordering: .relaxed) }

    // MARK: Loops

    func join(_ loop: EventLoop, _ number: Int) { loops.withLock { $0[number] = loop } }

    func leave(_ number: Int) {
        loops.withLock { $0[number] = nil }
        for kind in IdleKind.allCases { idle.publish(.never, kind, of: number) }
    }

    /// The loop that has fewest connections; nil when a given one has hardly more, for handing one over wakes the other loop.
    func lessLoaded(than loop: EventLoop) -> EventLoop? {
        loops.withLock { loops in
            guard loops.count > 1 else { return nil }
            let own = loop.load.load(ordering: .relaxed)
            var (least, found) = (own - own / 8, EventLoop?.none)
            for other in loops.values where other !== loop {
                let load = other.load.load(ordering: .relaxed)
                if load < least { (least, found) = (load, other) }
            }
            return found
        }
    }

    /// The loop with that number, while it runs.
    func loop(_ number: Int) -> EventLoop? { loops.withLock { $0[number] } }
}

/// Why a connection has no open request.
enum IdleKind: Int, CaseIterable, Sendable {
    /// No byte of a request has arrived on it yet.
    case silent
    /// It waits for its next request.
    case kept
}

/// When the longest idle connection of each loop and kind became idle: written by that loop alone, read by all without a lock.
final class IdleBoard: Sendable {
    private final class Time: Sendable {
        let nanoseconds = Atomic<Int64>(MonotonicTime.never.nanoseconds)
    }

    /// Loop numbers are below this.
    static let mostLoops = 65
    private let times = (0..<(mostLoops * IdleKind.allCases.count)).map { _ in Time() }
    private let silent = Atomic<Int>(0)

    /// - Parameter time: when the loop's longest idle connection became idle; `never` when it has none.
    func publish(_ time: MonotonicTime, _ kind: IdleKind, of loop: Int) {
        times[kind.rawValue * Self.mostLoops + loop].nanoseconds.store(time.nanoseconds, ordering: .relaxed)
    }

    func countSilent(_ change: Int) { silent.wrappingAdd(change, ordering: .relaxed) }

    /// The kinds of idle connections that are closed to make room when `limit` is reached: all kinds, or only the silent ones
    /// when those are more than half, so that clients which only connect displace no connection of a sender.
    func kindsToClose(_ limit: Int) -> [IdleKind] {
        silent.load(ordering: .relaxed) > limit / 2 ? [.silent] : IdleKind.allCases
    }

    /// The number of the loop that has the longest idle connection of these kinds; nil when there is none.
    func oldestLoop(_ kinds: [IdleKind]) -> Int? {
        var oldest = (loop: Int?.none, since: MonotonicTime.never.nanoseconds)
        for kind in kinds {
            for loop in 0..<Self.mostLoops {
                let since = times[kind.rawValue * Self.mostLoops + loop].nanoseconds.load(ordering: .relaxed)
                if since < oldest.since { oldest = (loop, since) }
            }
        }
        return oldest.loop
    }
}
