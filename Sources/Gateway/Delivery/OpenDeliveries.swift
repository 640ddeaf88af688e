import LinuxSystem

/// The operations that plugin instances have been handed and have not finished, by token.
///
/// A token is a place and a generation packed into a pointer's bits. It is never dereferenced, so a plugin that finishes
/// twice, or finishes what it made up, is seen and not obeyed.
struct OpenDeliveries {
    enum Operation {
        case delivery(ReceiverQueue.Handle)
        case flush
    }

    /// An operation that an instance has open.
    struct Open {
        let operation: Operation
        let openedAt: MonotonicTime
        /// The number of the instance it was handed to.
        let instance: Int
        /// Whether it probes a receiver that is failing.
        let isProbe: Bool
    }

    private struct Slot {
        var open: Open?
        var generation: UInt32 = 0
    }

    private var slots: [Slot] = []
    private var free: [Int] = []

    /// Opens an operation and answers the token that ends it; never zero.
    mutating func open(_ operation: Operation, by instance: Int, isProbe: Bool = false, now: MonotonicTime) -> UInt {
        let index = free.popLast() ?? slots.count
        if index == slots.count { slots.append(Slot()) }
        slots[index].open = Open(operation: operation, openedAt: now, instance: instance, isProbe: isProbe)
        slots[index].generation &+= 1
        return UInt(slots[index].generation) << 32 | UInt(index + 1)
    }

    /// Ends the operation that `token` stands for; nil when it stands for none.
    mutating func close(_ token: UInt) -> Open? {
        guard let index = index(of: token), let open = slots[index].open.take() else { return nil }
        free.append(index)
        return open
    }

    /// Whether `token` stands for an operation.
    func isOpen(_ token: UInt) -> Bool { index(of: token).map { slots[$0].open != nil } ?? false }

    private func index(of token: UInt) -> Int? {
        let index = Int(token & 0xFFFF_FFFF) - 1
        guard slots.indices.contains(index), slots[index].generation == UInt32(truncatingIfNeeded: token >> 32) else { return nil }
        return index
    }

    /// The deliveries that any instance has open.
    var deliveries: [ReceiverQueue.Handle] {
        slots.compactMap { slot in
            guard case .delivery(let handle)? = slot.open?.operation else { return nil }
            return handle
        }
    }

    /// Ends every operation of an instance; its tokens stand for nothing from here on.
    mutating func abandon(_ instance: Int) -> [Operation] {
        slots.indices.filter { slots[$0].open?.instance == instance }.compactMap { index in
            guard let open = slots[index].open.take() else { return nil }
            free.append(index)
            return open.operation
        }
    }

    /// When the oldest operation was opened that an instance still has open.
    func oldest(of instance: Int) -> MonotonicTime? {
        slots.lazy.compactMap(\.open).filter { $0.instance == instance }.map(\.openedAt).min()
    }
}
