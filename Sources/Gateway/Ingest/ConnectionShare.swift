import LinuxSystem
import Synchronization

/// The descriptors that connections may take, over several listeners and loops.
final class ConnectionShare: Sendable {
    private let limit = Atomic<Int>(.max)
    /// How many of them are for connections that are only told to come again.
    private let refusals = Atomic<Int>(0)
    private let used = Atomic<Int>(0)
    let idle = IdleBoard()
    private let loops = Mutex<[Int: EventLoop]>([:])

    /// How many connections there are.
    var count: Int { used.load(ordering: .relaxed) }
    /// How many can be served.
    var room: Int { limit.load(ordering: .relaxed) - refusals.load(ordering: .relaxed) }

    func change(limit: Int, refusals: Int) {
        self.limit.store(limit, ordering: .relaxed)
        self.refusals.store(refusals, ordering: .relaxed)
    }

    /// Counts one more connection, whatever there is room for.
    func connectionBegan() { used.wrappingAdd(1, ordering: .relaxed) }
    func connectionEnded() { used.wrappingSubtract(1, ordering: .relaxed) }

    /// True when one of those that are counted is more than can be served.
    var isExceeded: Bool { count > room }
    /// True when one of those that are counted is more than can even be answered.
    var isFarExceeded: Bool { count > limit.load(ordering: .relaxed) }

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
