package import LinuxSystem
import Synchronization

/// The owner of a body, for the division of memory among senders.
package enum BodySender: Hashable, Sendable {
    case tenant(String)
    case peer(PeerAddress)
}

/// The memory that request bodies may hold while they arrive, in all and for each sender, and that of unfinished heads and TLS
/// handshakes, in bytes. Thread-safe.
///
/// Beyond the limit sockets are not read, so that TCP slows the senders down. The last part of the limit, as large as one
/// sender's share, is reserved for senders below their share, so that one sender never keeps the others out. When there is no
/// room, one body at a time still goes on, and so does one body whose sender is beyond its share, so that every sender gets a
/// turn.
package final class BodyBudget: Sendable {
    /// The account of one sender: the bytes that its bodies hold, its bodies, and its turns.
    package final class Sender: Sendable {
        fileprivate let name: BodySender
        fileprivate let used = Atomic<Int>(0)
        fileprivate let bodies = Atomic<Int>(0)
        fileprivate let turns = Atomic<Int>(0)

        fileprivate init(_ name: BodySender) { self.name = name }
    }

    private struct Senders {
        var all: [BodySender: Sender] = [:]
        /// How many of them have no body now.
        var idleCount = 0
    }

    private let limit: Atomic<Int>
    private let share: Atomic<Int>
    private let used = Atomic<Int>(0)
    /// The parts of `used` that unfinished heads and unfinished handshakes hold.
    private let (heads, handshakes) = (Part(), Part())
    static let leastForBeginnings = 1 << 20
    private let senders = Mutex(Senders())
    private let peers = Atomic<Int>(0)
    /// The connections whose bodies go on although there is no room: one whose sender is within its share, and one whose sender
    /// is beyond it; 0 is none.
    private let turn = Atomic<UInt64>(0)
    private let turnBeyondShare = Atomic<UInt64>(0)

    package init(limit: Int, share: Int? = nil) {
        self.limit = Atomic(limit)
        self.share = Atomic(share ?? limit / 4)
    }

    package func change(limit new: Int, share: Int) {
        limit.store(new, ordering: .relaxed)
        self.share.store(share, ordering: .relaxed)
    }

    /// True while less than the limit is in use.
    var hasRoom: Bool { used.load(ordering: .relaxed) < limit.load(ordering: .relaxed) }

    // MARK: Heads and handshakes

    /// The kinds of memory that are held before a body begins.
    enum Beginning { case head, handshake }

    private final class Part: Sendable {
        let used = Atomic<Int>(0)
    }

    private func part(_ kind: Beginning) -> Part { kind == .head ? heads : handshakes }

    /// Takes memory for a head or a handshake. All of one kind together may hold an eighth of the limit, so that the rest is left
    /// to bodies, but always ``leastForBeginnings``.
    ///
    /// - Returns: false when there is no room; nothing is taken then.
    func reserve(_ bytes: Int, for kind: Beginning) -> Bool {
        let held = part(kind).used.wrappingAdd(bytes, ordering: .relaxed).newValue
        guard held <= max(Self.leastForBeginnings, limit.load(ordering: .relaxed) / 8) else {
            part(kind).used.wrappingSubtract(bytes, ordering: .relaxed)
            return false
        }
        add(bytes)
        return true
    }

    /// Takes memory for a head or a handshake even when there is no room.
    func add(_ bytes: Int, for kind: Beginning) {
        part(kind).used.wrappingAdd(bytes, ordering: .relaxed)
        add(bytes)
    }

    func release(_ bytes: Int, of kind: Beginning) {
        part(kind).used.wrappingSubtract(bytes, ordering: .relaxed)
        release(bytes)
    }

    // MARK: Senders

    /// The most senders without a body that are remembered, so that those who send again need no new account. Names that were
    /// invented are forgotten together with the others.
    private static let mostIdle = 1024

    /// Counts one more body for each of these senders, until ``leave(_:)``.
    func join(_ names: [BodySender]) -> [Sender] {
        guard !names.isEmpty else { return [] }
        return senders.withLock { senders in
            var joined: [Sender] = []
            joined.reserveCapacity(names.count)
            for name in names {
                let sender: Sender
                if let known = senders.all[name] {
                    sender = known
                    if known.bodies.load(ordering: .relaxed) == 0 { senders.idleCount -= 1 }
                } else {
                    sender = Sender(name)
                    senders.all[name] = sender
                }
                if sender.bodies.wrappingAdd(1, ordering: .relaxed).newValue == 1, case .peer = name {
                    peers.wrappingAdd(1, ordering: .relaxed)
                }
                joined.append(sender)
            }
            return joined
        }
    }

    func leave(_ left: [Sender]) {
        guard !left.isEmpty else { return }
        senders.withLock { senders in
            for sender in left where sender.bodies.wrappingSubtract(1, ordering: .relaxed).newValue == 0 {
                senders.idleCount += 1
                if case .peer = sender.name { peers.wrappingSubtract(1, ordering: .relaxed) }
            }
            guard senders.idleCount > Self.mostIdle else { return }
            senders.all = senders.all.filter { $0.value.bodies.load(ordering: .relaxed) > 0 }
            senders.idleCount = 0
        }
    }

    // MARK: Bytes

    /// Whether a connection may read more of its body now.
    func allows(_ connection: ConnectionKey, _ senders: [Sender]) -> Bool {
        let (used, limit, share) = (used.load(ordering: .relaxed), limit.load(ordering: .relaxed), share.load(ordering: .relaxed))
        if used < limit - share { return true }
        let isBeyondShare = senders.contains { isBeyond(share, $0) }
        if used < limit, !isBeyondShare { return true }
        // A connection keeps its turn until its body ends, even when it would now be given the other kind of turn.
        let holders = (turn.load(ordering: .relaxed), turnBeyondShare.load(ordering: .relaxed))
        if holders.0 == connection.rawValue || holders.1 == connection.rawValue { return true }
        return isBeyondShare ? takeTurn(turnBeyondShare, connection, senders) : takeTurn(turn, connection, senders)
    }

    /// Gives a connection this turn if it is free. A sender has one turn at a time, of either kind; of several names only the
    /// first, which is the narrowest, counts.
    private func takeTurn(_ turn: borrowing Atomic<UInt64>, _ connection: ConnectionKey, _ senders: [Sender]) -> Bool {
        guard senders.first.map({ $0.turns.load(ordering: .relaxed) == 0 }) ?? true,
            turn.compareExchange(expected: 0, desired: connection.rawValue, ordering: .relaxed).exchanged
        else { return false }
        senders.first?.turns.wrappingAdd(1, ordering: .relaxed)
        return true
    }

    private func giveBack(_ turn: borrowing Atomic<UInt64>, _ connection: ConnectionKey, _ senders: [Sender]) {
        guard turn.load(ordering: .relaxed) == connection.rawValue else { return }
        senders.first?.turns.wrappingSubtract(1, ordering: .relaxed)
        _ = turn.compareExchange(expected: connection.rawValue, desired: 0, ordering: .relaxed)
    }

    /// Whether a sender is beyond its share. A sender with a single body never is, nor is a peer address while no other address
    /// sends.
    private func isBeyond(_ share: Int, _ sender: Sender) -> Bool {
        guard sender.used.load(ordering: .relaxed) >= share, sender.bodies.load(ordering: .relaxed) > 1 else { return false }
        if case .peer = sender.name { return peers.load(ordering: .relaxed) > 1 }
        return true
    }

    package func add(_ bytes: Int, _ senders: [Sender] = []) {
        used.wrappingAdd(bytes, ordering: .relaxed)
        for sender in senders { sender.used.wrappingAdd(bytes, ordering: .relaxed) }
    }

    package func release(_ bytes: Int, _ senders: [Sender] = []) {
        used.wrappingSubtract(bytes, ordering: .relaxed)
        for sender in senders { sender.used.wrappingSubtract(bytes, ordering: .relaxed) }
    }

    /// Gives back the bytes that a body held, and the connection's turn if it has one.
    func release(_ bytes: Int, _ senders: [Sender], _ connection: ConnectionKey) {
        release(bytes, senders)
        giveBack(turn, connection, senders)
        giveBack(turnBeyondShare, connection, senders)
    }
}

/// Checks every ten seconds whether a body arrives quickly enough.
struct BodyRate {
    static let window = Duration.seconds(10)

    private var since: MonotonicTime
    private var bytes: Int

    init(since: MonotonicTime, bytes: Int) { (self.since, self.bytes) = (since, bytes) }

    /// Whether fewer than `rate` bytes a second have arrived since the last check; false until ten seconds have passed since
    /// then.
    mutating func isTooSlow(_ now: MonotonicTime, bytes received: Int, rate: Int) -> Bool {
        guard now >= since + Self.window else { return false }
        let (seconds, count) = (Double(now.nanoseconds - since.nanoseconds) / 1e9, received - bytes)
        (since, bytes) = (now, received)
        return Double(count) < Double(rate) * seconds
    }
}
