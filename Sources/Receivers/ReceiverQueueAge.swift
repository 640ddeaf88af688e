/// What is asked of a queue's entries by their age.
extension ReceiverQueue {
    /// The waiting entry with the fewest attempts, but at least one; the oldest of several. Entries that the destination has
    /// answered come after those that it has not.
    ///
    /// Visits every entry, so it is only for probes.
    var leastTried: Handle? {
        var found: (index: Int32, rank: (Int, Int))?
        var index = age.first
        while index >= 0, let entry = entries[Int(index)] {
            let waits = entry.place == .due || entry.place == .delayed
            let rank = (entry.refusals.isKnown ? 1 : 0, entry.attempts)
            if waits, entry.isTried, found.map({ rank < $0.rank }) ?? true { found = (index, rank) }
            index = entry.age.next
        }
        return found.map { Handle(index: $0.index) }
    }

    /// The oldest entry that is not open, which is the next to be evicted.
    var oldestWaiting: Handle? {
        var index = age.first
        while index >= 0, let entry = entries[Int(index)] {
            if entry.place != .open { return Handle(index: index) }
            index = entry.age.next
        }
        return nil
    }

    /// The handles of all entries, oldest first.
    var handles: [Handle] {
        var handles: [Handle] = []
        var index = age.first
        while index >= 0, let entry = entries[Int(index)] {
            handles.append(Handle(index: index))
            index = entry.age.next
        }
        return handles
    }

    /// Returns the newest `count` entries, oldest first.
    func newest(_ count: Int) -> [Handle] {
        var handles: [Handle] = []
        var index = age.last
        while handles.count < count, index >= 0, let entry = entries[Int(index)] {
            handles.append(Handle(index: index))
            index = entry.age.previous
        }
        return handles.reversed()
    }
}
