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
        var instance = 0
    }

    private var slots: [Slot] = []
    private var free: [Int] = []
    /// The plugin instance that operations are handed to; those of the ones before it may still be open.
    private(set) var instance = 0
    /// How many deliveries the instance has open; a flush does not count.
    private(set) var deliveryCount = 0
    /// How many operations the instance has open.
    private(set) var count = 0

    /// Hands what is opened from here on to another instance.
    mutating func hand(to next: Int) { (instance, deliveryCount, count) = (next, 0, 0) }

    /// Opens an operation and answers the token that ends it; never zero.
    ///
    /// - Parameter former: the instance, where it is not the one that operations are handed to.
    mutating func open(_ operation: Operation, by former: Int? = nil, now: MonotonicTime) -> UInt {
        let index = free.popLast() ?? slots.count
        if index == slots.count { slots.append(Slot()) }
        slots[index].operation = operation
        slots[index].openedAt = now
        slots[index].generation &+= 1
        slots[index].instance = former ?? instance
        if slots[index].instance == instance { add(operation, 1) }
        return UInt(slots[index].generation) << 32 | UInt(index + 1)
    }

    /// Ends the operation that `token` stands for; nil when it stands for none.
    mutating func close(_ token: UInt) -> (operation: Operation, openedAt: MonotonicTime)? {
        let index = Int(token & 0xFFFF_FFFF) - 1
        guard slots.indices.contains(index), slots[index].generation == UInt32(truncatingIfNeeded: token >> 32),
            let operation = slots[index].operation.take()
        else { return nil }
        free.append(index)
        if slots[index].instance == instance { add(operation, -1) }
        return (operation, slots[index].openedAt)
    }

    private mutating func add(_ operation: Operation, _ change: Int) {
        count += change
        if case .delivery = operation { deliveryCount += change }
    }

    /// Whose operation `token` stands for; nil when it stands for none.
    func instance(of token: UInt) -> Int? {
        let index = Int(token & 0xFFFF_FFFF) - 1
        guard slots.indices.contains(index), slots[index].generation == UInt32(truncatingIfNeeded: token >> 32) else { return nil }
        return slots[index].operation == nil ? nil : slots[index].instance
    }

    /// The deliveries that any instance has open.
    var deliveries: [ReceiverQueue.Handle] {
        slots.compactMap { slot in
            guard case .delivery(let handle)? = slot.operation else { return nil }
            return handle
        }
    }

    /// How many operations an instance has open, a former one too.
    func count(of instance: Int) -> Int { slots.count { $0.operation != nil && $0.instance == instance } }

    /// Ends every operation of a former instance; its tokens stand for nothing from here on.
    mutating func abandon(_ former: Int) -> [Operation] {
        slots.indices.filter { slots[$0].instance == former }.compactMap { index in
            guard let operation = slots[index].operation.take() else { return nil }
            free.append(index)
            return operation
        }
    }

    /// When the oldest operation was opened that the instance still has open.
    var oldest: MonotonicTime? {
        slots.filter { $0.operation != nil && $0.instance == instance }.map(\.openedAt).min()
    }
}
