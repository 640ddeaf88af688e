import LinuxSystem
import Synchronization

/// The descriptors that connections may take, over several listeners and loops.
final class ConnectionShare: Sendable {
    /// What becomes of a connection: it is served, or only told to come again; each has its own part of the share.
    enum Use: Sendable { case served, refused }

    private final class Part: Sendable {
        let limit = Atomic<Int>(.max)
        let used = Atomic<Int>(0)
    }

    private let served = Part()
    private let refused = Part()
    let idle = IdleBoard()
    private let loops = Mutex<[Int: EventLoop]>([:])

    private func part(_ use: Use) -> Part { use == .served ? served : refused }

    /// How many connections there are.
    var count: Int { served.used.load(ordering: .relaxed) + refused.used.load(ordering: .relaxed) }
    /// How many can be served.
    var room: Int { served.limit.load(ordering: .relaxed) }

    /// - Parameter refusals: how many of `limit` are for connections that are only told to come again.
    func change(limit: Int, refusals: Int) {
        served.limit.store(limit - refusals, ordering: .relaxed)
        refused.limit.store(refusals, ordering: .relaxed)
    }

    /// Counts one more connection; false when there is no room, and then it is not counted.
    func take(_ use: Use) -> Bool {
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

    /// The loop of that number, while it runs.
    func loop(_ number: Int) -> EventLoop? { loops.withLock { $0[number] } }
}

/// Why a connection has no open request.
enum IdleKind: Int, CaseIterable, Sendable {
    /// Nothing has come on it yet.
    case silent
    /// It waits for its next request.
    case kept
}

/// Since when the longest idle connection of each loop has been idle: written by the loop alone, read by all without a lock.
final class IdleBoard: Sendable {
    private final class Time: Sendable {
        let nanoseconds = Atomic<Int64>(MonotonicTime.never.nanoseconds)
    }

    /// The numbers of loops are below this.
    static let mostLoops = 9
    private let times = (0..<(mostLoops * IdleKind.allCases.count)).map { _ in Time() }
    private let silent = Atomic<Int>(0)

    /// - Parameter time: `never` when the loop has none.
    func publish(_ time: MonotonicTime, _ kind: IdleKind, of loop: Int) {
        times[kind.rawValue * Self.mostLoops + loop].nanoseconds.store(time.nanoseconds, ordering: .relaxed)
    }

    func countSilent(_ change: Int) { silent.wrappingAdd(change, ordering: .relaxed) }

    /// Which connections are to make room where `limit` is reached: the oldest of all, or of the silent ones alone when those
    /// are more than half, so that who only connects closes no connection of a sender.
    func kindsToClose(_ limit: Int) -> [IdleKind] {
        silent.load(ordering: .relaxed) > limit / 2 ? [.silent] : IdleKind.allCases
    }

    /// The number of the loop that has the oldest connection of some kinds; nil when none has one.
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
