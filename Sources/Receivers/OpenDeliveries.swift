import LinuxSystem

/// The operations that plugin instances have been given and have not finished, by token.
///
/// A token is a slot and a generation packed into the bits of a pointer, which is never dereferenced. So when a plugin finishes an
/// operation twice, or passes an invalid token, this is detected and has no effect.
struct OpenDeliveries {
    enum Operation {
        case delivery(ReceiverQueue.Handle)
        case flush
    }

    /// An open operation of an instance.
    struct Open {
        let operation: Operation
        let openedAt: MonotonicTime
        /// The number of the instance that it was given to.
        let instance: Int
        /// Whether it is a probe of a failing receiver.
        let isProbe: Bool
    }

    private struct Slot {
        var open: Open?
        var generation: UInt32 = 0
    }

    private var slots: [Slot] = []
    private var free: [Int] = []
    /// The tokens of operations that were taken back and may still be finished; the last ones only.
    private var takenBack: [UInt] = []
    private static let mostTakenBack = 1024

    /// Opens an operation and returns the token that ends it, which is never zero.
    mutating func open(_ operation: Operation, by instance: Int, isProbe: Bool = false, now: MonotonicTime) -> UInt {
        let index = free.popLast() ?? slots.count
        if index == slots.count { slots.append(Slot()) }
        slots[index].open = Open(operation: operation, openedAt: now, instance: instance, isProbe: isProbe)
        slots[index].generation &+= 1
        return UInt(slots[index].generation) << 32 | UInt(index + 1)
    }

    /// Ends the operation that `token` stands for; returns nil when there is none.
    mutating func close(_ token: UInt) -> Open? {
        guard let index = index(of: token), let open = slots[index].open.take() else { return nil }
        free.append(index)
        return open
    }

    /// Whether `token` stands for an open operation.
    func isOpen(_ token: UInt) -> Bool { index(of: token).map { slots[$0].open != nil } ?? false }

    /// The place of an operation, which no other open one has; from 0.
    static func place(of token: UInt) -> Int { Int(token & 0xFFFF_FFFF) - 1 }

    private func index(of token: UInt) -> Int? {
        let index = Self.place(of: token)
        guard slots.indices.contains(index), slots[index].generation == UInt32(truncatingIfNeeded: token >> 32) else { return nil }
        return index
    }

    /// The open deliveries of all instances.
    var deliveries: [ReceiverQueue.Handle] {
        slots.compactMap { slot in
            guard case .delivery(let handle)? = slot.open?.operation else { return nil }
            return handle
        }
    }

    /// Ends and returns all operations of an instance; their tokens are invalid from here on.
    mutating func abandon(_ instance: Int) -> [Open] {
        slots.indices.filter { slots[$0].open?.instance == instance }.compactMap { index in
            guard let open = slots[index].open.take() else { return nil }
            free.append(index)
            takenBack.append(UInt(slots[index].generation) << 32 | UInt(index + 1))
            return open
        }
    }

    /// Whether a token stands for an operation that was taken back; true once for each.
    mutating func wasTakenBack(_ token: UInt) -> Bool {
        takenBack.removeFirst(max(0, takenBack.count - Self.mostTakenBack))
        guard let index = takenBack.firstIndex(of: token) else { return false }
        takenBack.remove(at: index)
        return true
    }

    /// The time at which the oldest open operation of an instance was opened; nil when none is open.
    func oldest(of instance: Int) -> MonotonicTime? {
        slots.lazy.compactMap(\.open).filter { $0.instance == instance }.map(\.openedAt).min()
    }
}
