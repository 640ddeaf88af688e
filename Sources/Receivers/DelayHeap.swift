import LinuxSystem

/// The due times of a queue's delayed entries: a binary heap with the earliest first. A plain value.
struct DelayHeap {
    /// When an entry is due; obsolete once the entry has another serial.
    struct Delay {
        let due: MonotonicTime
        let index: Int32
        let serial: UInt32
    }

    /// All records, in the order of the heap.
    private(set) var all: [Delay] = []

    init() {}

    /// Makes a heap of records; a sorted array is one.
    init(_ records: [Delay]) { all = records.sorted { $0.due < $1.due } }

    var count: Int { all.count }
    /// The record with the earliest due time.
    var first: Delay? { all.first }

    mutating func push(_ delay: Delay) {
        all.append(delay)
        var child = all.count - 1
        while child > 0, all[child].due < all[(child - 1) / 2].due {
            all.swapAt(child, (child - 1) / 2)
            child = (child - 1) / 2
        }
    }

    /// Removes the record with the earliest due time; the heap must not be empty.
    mutating func pop() {
        all.swapAt(0, all.count - 1)
        all.removeLast()
        var parent = 0
        while true {
            let left = 2 * parent + 1
            guard left < all.count else { return }
            let right = left + 1
            let child = right < all.count && all[right].due < all[left].due ? right : left
            guard all[child].due < all[parent].due else { return }
            all.swapAt(parent, child)
            parent = child
        }
    }
}
