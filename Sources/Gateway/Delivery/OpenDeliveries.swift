import LinuxSystem

/// The operations a plugin has been handed and has not finished, by token.
///
/// A token is a place and a generation packed into a pointer's bits. It is never dereferenced, so a plugin that finishes
/// twice, or finishes what it made up, is seen and not obeyed.
struct OpenDeliveries {
    enum Operation {
        case delivery(ReceiverQueue.Handle)
        case flush
    }

    private struct Slot {
        var operation: Operation?
        var generation: UInt32 = 0
        var openedAt = MonotonicTime.never
    }

    private var slots: [Slot] = []
    private var free: [Int] = []
    /// How many deliveries are open; a flush does not count.
    private(set) var deliveryCount = 0
    private(set) var count = 0

    /// Opens an operation and answers the token that ends it; never zero.
    mutating func open(_ operation: Operation, now: MonotonicTime) -> UInt {
        let index = free.popLast() ?? slots.count
        if index == slots.count { slots.append(Slot()) }
        slots[index].operation = operation
        slots[index].openedAt = now
        slots[index].generation &+= 1
        count += 1
        if case .delivery = operation { deliveryCount += 1 }
        return UInt(slots[index].generation) << 32 | UInt(index + 1)
    }

    /// Ends the operation that `token` stands for; nil when it stands for none.
    mutating func close(_ token: UInt) -> (operation: Operation, openedAt: MonotonicTime)? {
        let index = Int(token & 0xFFFF_FFFF) - 1
        guard slots.indices.contains(index), slots[index].generation == UInt32(truncatingIfNeeded: token >> 32),
            let operation = slots[index].operation.take()
        else { return nil }
        free.append(index)
        count -= 1
        if case .delivery = operation { deliveryCount -= 1 }
        return (operation, slots[index].openedAt)
    }

    /// When the oldest operation that is still open was opened.
    var oldest: MonotonicTime? { slots.filter { $0.operation != nil }.map(\.openedAt).min() }
}
