/// The links of a queue's entries, which make chains of them. They are not in the entries, so that linking touches no reference.
struct QueueLinks {
    /// What an entry is linked in: by age, in the list of its place, and among the fresh entries of its share.
    enum Chain: Int {
        case age, order, lane

        static let count = 3
    }

    /// The neighbours of an entry in a chain; -1 for none.
    struct Neighbours {
        var previous: Int32 = -1
        var next: Int32 = -1
    }

    /// The ends of a chain; -1 for none.
    struct Ends {
        var first: Int32 = -1
        var last: Int32 = -1
        var count = 0
    }

    /// Those of one entry after those of another, in the order of the chains.
    private var all: [Neighbours] = []

    private func place(_ index: Int32, in chain: Chain) -> Int { Int(index) * Chain.count + chain.rawValue }

    /// The neighbours of an entry.
    func neighbours(of index: Int32, in chain: Chain) -> Neighbours { all[place(index, in: chain)] }

    /// Makes room for the links of one more entry.
    mutating func addEntry() { for _ in 0..<Chain.count { all.append(Neighbours()) } }

    /// Forgets all entries, and keeps the memory.
    mutating func removeAll() { all.removeAll(keepingCapacity: true) }

    /// Adds an entry to a chain that it is not in.
    mutating func link(_ index: Int32, _ ends: inout Ends, _ chain: Chain, atEnd: Bool) {
        let neighbour = atEnd ? ends.last : ends.first
        all[place(index, in: chain)] = atEnd ? Neighbours(previous: neighbour) : Neighbours(next: neighbour)
        if neighbour >= 0 {
            if atEnd { all[place(neighbour, in: chain)].next = index } else { all[place(neighbour, in: chain)].previous = index }
        }
        if atEnd || neighbour < 0 { ends.last = index }
        if !atEnd || neighbour < 0 { ends.first = index }
        ends.count += 1
    }

    /// Removes an entry from a chain that it is in.
    mutating func unlink(_ index: Int32, _ ends: inout Ends, _ chain: Chain) {
        let (previous, next) = (neighbours(of: index, in: chain).previous, neighbours(of: index, in: chain).next)
        ends.count -= 1
        if previous >= 0 { all[place(previous, in: chain)].next = next } else { ends.first = next }
        if next >= 0 { all[place(next, in: chain)].previous = previous } else { ends.last = previous }
    }
}
