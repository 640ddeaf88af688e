import LinuxSystem
import Synchronization

/// Whose a body is, as far as memory is shared.
enum BodySender: Hashable, Sendable {
    case tenant(String)
    case peer(PeerAddress)
}

/// How many bytes all bodies that are being received may hold together, and each sender's, and what is kept of unfinished heads and
/// handshakes; from any thread.
///
/// Beyond it sockets are not read, so that TCP pushes back on senders. The last part of the limit, as large as one sender's share,
/// is for those who hold less than their share, so one sender never keeps the others out. Where there is no room, one body at a time
/// goes on all the same, and one of those whose senders are beyond their share, so that the others get their turn.
final class BodyBudget: Sendable {
    /// What one sender's bodies hold.
    final class Sender: Sendable {
        fileprivate let name: BodySender
        fileprivate let used = Atomic<Int>(0)
        fileprivate let bodies = Atomic<Int>(0)
        fileprivate let turns = Atomic<Int>(0)

        fileprivate init(_ name: BodySender) { self.name = name }
    }

    private let limit: Atomic<Int>
    private let share: Atomic<Int>
    private let used = Atomic<Int>(0)
    /// Of it, what unfinished heads and what unfinished handshakes hold.
    private let (heads, handshakes) = (Part(), Part())
    static let leastForBeginnings = 1 << 20
    private let senders = Mutex<[BodySender: Sender]>([:])
    private let peers = Atomic<Int>(0)
    /// The connections whose bodies go on although there is no room: one whose sender is within its share, and one whose sender is not.
    private let turn = Atomic<UInt64>(0)
    private let turnBeyondShare = Atomic<UInt64>(0)

    init(limit: Int, share: Int? = nil) {
        self.limit = Atomic(limit)
        self.share = Atomic(share ?? limit / 4)
    }

    func change(limit new: Int, share: Int) {
        limit.store(new, ordering: .relaxed)
        self.share.store(share, ordering: .relaxed)
    }

    /// True while the bodies are below the limit.
    var hasRoom: Bool { used.load(ordering: .relaxed) < limit.load(ordering: .relaxed) }

    // MARK: Beginnings

    /// What is kept before there is a body.
    enum Beginning { case head, handshake }

    private final class Part: Sendable {
        let used = Atomic<Int>(0)
    }

    private func part(_ kind: Beginning) -> Part { kind == .head ? heads : handshakes }

    /// Takes room for a beginning: all of a kind may have an eighth of the limit, so that the rest is left to bodies, but always
    /// ``leastForBeginnings``.
    ///
    /// - Returns: false when there is none; then nothing is taken.
    func take(_ bytes: Int, for kind: Beginning) -> Bool {
        let held = part(kind).used.wrappingAdd(bytes, ordering: .relaxed).newValue
        guard held <= max(Self.leastForBeginnings, limit.load(ordering: .relaxed) / 8) else {
            part(kind).used.wrappingSubtract(bytes, ordering: .relaxed)
            return false
        }
        add(bytes)
        return true
    }

    /// Takes room for a beginning whether there is some or not.
    func add(_ bytes: Int, for kind: Beginning) {
        part(kind).used.wrappingAdd(bytes, ordering: .relaxed)
        add(bytes)
    }

    func release(_ bytes: Int, of kind: Beginning) {
        part(kind).used.wrappingSubtract(bytes, ordering: .relaxed)
        release(bytes)
    }

    // MARK: Senders

    /// Begins to count a body of each of these; ``leave(_:)`` ends it.
    func join(_ names: [BodySender]) -> [Sender] {
        guard !names.isEmpty else { return [] }
        return senders.withLock { senders in
            names.map { name in
                let sender = senders[name] ?? Sender(name)
                if senders.updateValue(sender, forKey: name) == nil, case .peer = name { peers.wrappingAdd(1, ordering: .relaxed) }
                sender.bodies.wrappingAdd(1, ordering: .relaxed)
                return sender
            }
        }
    }

    func leave(_ left: [Sender]) {
        guard !left.isEmpty else { return }
        senders.withLock { senders in
            for sender in left where sender.bodies.wrappingSubtract(1, ordering: .relaxed).newValue == 0 {
                senders[sender.name] = nil
                if case .peer = sender.name { peers.wrappingSubtract(1, ordering: .relaxed) }
            }
        }
    }

    // MARK: Bytes

    /// True when a connection may read more of its body now.
    func allows(_ connection: ConnectionKey, _ senders: [Sender]) -> Bool {
        let (used, limit, share) = (used.load(ordering: .relaxed), limit.load(ordering: .relaxed), share.load(ordering: .relaxed))
        if used < limit - share { return true }
        let isBeyondShare = senders.contains { isBeyond(share, $0) }
        if used < limit, !isBeyondShare { return true }
        // Whoever has a turn keeps it to the end of its body, whichever it would get now.
        let holders = (turn.load(ordering: .relaxed), turnBeyondShare.load(ordering: .relaxed))
        if holders.0 == connection.rawValue || holders.1 == connection.rawValue { return true }
        return isBeyondShare ? take(turnBeyondShare, connection, senders) : take(turn, connection, senders)
    }

    /// A sender has one turn at a time, of either kind; of several names the first, which is the narrowest, counts.
    private func take(_ turn: borrowing Atomic<UInt64>, _ connection: ConnectionKey, _ senders: [Sender]) -> Bool {
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

    /// A single body is never beyond a share, nor is an address that shares the memory with no other one.
    private func isBeyond(_ share: Int, _ sender: Sender) -> Bool {
        guard sender.used.load(ordering: .relaxed) >= share, sender.bodies.load(ordering: .relaxed) > 1 else { return false }
        if case .peer = sender.name { return peers.load(ordering: .relaxed) > 1 }
        return true
    }

    func add(_ bytes: Int, _ senders: [Sender] = []) {
        used.wrappingAdd(bytes, ordering: .relaxed)
        for sender in senders { sender.used.wrappingAdd(bytes, ordering: .relaxed) }
    }

    func release(_ bytes: Int, _ senders: [Sender] = []) {
        used.wrappingSubtract(bytes, ordering: .relaxed)
        for sender in senders { sender.used.wrappingSubtract(bytes, ordering: .relaxed) }
    }

    /// Gives back what a body held, and its turn when it had one.
    func release(_ bytes: Int, _ senders: [Sender], _ connection: ConnectionKey) {
        release(bytes, senders)
        giveBack(turn, connection, senders)
        giveBack(turnBeyondShare, connection, senders)
    }
}

/// Whether a body arrives quickly enough: looked at every ten seconds.
struct BodyPace {
    static let window = Duration.seconds(10)

    private var since: MonotonicTime
    private var bytes: Int

    init(since: MonotonicTime, bytes: Int) { (self.since, self.bytes) = (since, bytes) }

    /// Whether fewer bytes a second than `rate` have come since the last look, which was ten seconds ago or more.
    mutating func isTooSlow(_ now: MonotonicTime, bytes received: Int, rate: Int) -> Bool {
        guard now >= since + Self.window else { return false }
        let (seconds, count) = (Double(now.nanoseconds - since.nanoseconds) / 1e9, received - bytes)
        (since, bytes) = (now, received)
        return Double(count) < Double(rate) * seconds
    }
}
