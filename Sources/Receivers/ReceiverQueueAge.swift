import LinuxSystem

/// What is asked of a queue's entries by their age.
extension ReceiverQueue {
    /// The waiting entry with the fewest attempts, but at least one; the oldest of several. Entries that the destination has
    /// answered come after those that it has not.
    ///
    /// Visits every entry, so it is only for probes.
    var leastTried: Handle? {
        var found: (index: Int32, rank: (Int, Int))?
        var index = age.first
        while index >= 0 {
            let (place, isTried) = (entries[Int(index)].place, entries[Int(index)].isTried)
            let rank = (entries[Int(index)].refusals.isKnown ? 1 : 0, entries[Int(index)].attempts)
            if place == .due || place == .delayed, isTried, found.map({ rank < $0.rank }) ?? true { found = (index, rank) }
            index = links.neighbours(of: index, in: .age).next
        }
        return found.map { Handle(index: $0.index) }
    }

    /// The oldest entry that is not open, which is the next to be evicted.
    var oldestWaiting: Handle? {
        var index = age.first
        while index >= 0 {
            if entries[Int(index)].place != .open { return Handle(index: index) }
            index = links.neighbours(of: index, in: .age).next
        }
        return nil
    }

    /// How long the oldest entry has been queued, in nanoseconds; 0 when there is none.
    func longestWait(_ now: MonotonicTime) -> Int64 {
        age.first < 0 ? 0 : max(0, now.nanoseconds.subtractingSaturated(entries[Int(age.first)].acceptedAt.nanoseconds))
    }

    /// The handles of all entries, oldest first.
    var handles: [Handle] {
        var handles: [Handle] = []
        var index = age.first
        while index >= 0 {
            handles.append(Handle(index: index))
            index = links.neighbours(of: index, in: .age).next
        }
        return handles
    }

    /// Returns the newest `count` entries, oldest first.
    func newest(_ count: Int) -> [Handle] {
        var handles: [Handle] = []
        var index = age.last
        while handles.count < count, index >= 0 {
            handles.append(Handle(index: index))
            index = links.neighbours(of: index, in: .age).previous
        }
        return handles.reversed()
    }
}
