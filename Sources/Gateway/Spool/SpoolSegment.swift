import LinuxSystem

/// Where one record is.
struct SpoolPosition: Hashable, Comparable, Sendable {
    var segment: UInt64
    /// Which entry of the segment's index it is.
    var ordinal: UInt32
    var offset: UInt32
    /// The whole record's, head included; what the profile costs a queue.
    var length: UInt32
    /// Whose share of a queue it takes.
    var share = ShareKey.unknown

    static func < (a: SpoolPosition, b: SpoolPosition) -> Bool { (a.segment, a.ordinal) < (b.segment, b.ordinal) }
}

/// One segment as the running gateway knows it. A plain value: the spool has the lock.
struct SpoolSegment {
    let header: SpoolHeader
    /// Where the index file's entries begin.
    var indexStart: Int
    /// The index while the segment grows, and where it could not be written to its file.
    var entries: [IndexEntry]?
    private(set) var count = 0
    /// The bytes of the records file that hold records which are accepted.
    private(set) var recordsSize: Int
    /// What was settled, on disk.
    var settledSize = 0
    /// From the monotonic clock to the one that its records are dated by, in nanoseconds.
    var clockOffset: Int64 = 0
    /// True when the start could not read it: queues have a cursor of its own for it.
    var isLate = false
    /// How many records each of the header's receivers has not settled, and their bytes.
    private(set) var live: [Int]
    private(set) var liveBytes: [Int]
    /// Whose they are.
    private(set) var shares: [ShareUsage]
    private(set) var oldest: [Int64]
    private(set) var lastSequence: UInt64 = 0

    var number: UInt64 { header.segment }
    var isSettled: Bool { live.allSatisfy { $0 == 0 } }
    /// What its files take on disk.
    var byteCount: Int { recordsSize + indexStart + count * IndexEntry.size + settledSize }
    /// The most that one receiver still needs of it, which is what all need of it unless they are for different ones.
    var mostLiveBytes: Int { liveBytes.max() ?? 0 }

    init(_ header: SpoolHeader, indexStart: Int) {
        self.header = header
        self.indexStart = indexStart
        entries = []
        recordsSize = header.encoded(.records).count
        live = header.receivers.map { _ in 0 }
        liveBytes = live
        shares = live.map { _ in ShareUsage() }
        oldest = live.map { _ in .max }
    }

    /// Which of the header's receivers it is.
    func slot(of receiver: String) -> Int? { header.receivers.firstIndex(of: receiver) }

    /// Takes in a record that is on disk.
    ///
    /// - Parameter live: the receivers that have not settled it; all it is for when nil.
    mutating func add(_ entry: IndexEntry, live mask: UInt64? = nil) {
        entries?.append(entry)
        count += 1
        recordsSize = max(recordsSize, entry.end)
        if !entry.isCopy { lastSequence = max(lastSequence, entry.sequence) }
        let mask = mask ?? entry.receivers
        for slot in live.indices where mask >> UInt64(slot) & 1 == 1 {
            live[slot] += 1
            liveBytes[slot] += Int(entry.length)
            shares[slot].add(entry.share, bytes: Int(entry.length))
            oldest[slot] = min(oldest[slot], entry.time)
        }
    }

    mutating func settle(_ slot: Int, _ length: Int, _ share: ShareKey) {
        live[slot] -= 1
        liveBytes[slot] -= length
        shares[slot].remove(share, bytes: length)
    }
}

/// What one receiver has settled in one segment, and how far its attempts have come.
struct SettledLedger {
    /// Sorted by their beginning; they may overlap.
    private var ranges: [Range<UInt32>] = []
    private(set) var attempts: [UInt32: SpoolAttempt] = [:]
    private var next = 0

    init(_ entries: [SettledEntry]) {
        for entry in entries {
            switch entry.kind {
            case .settled where entry.offset < entry.end: ranges.append(entry.offset..<entry.end)
            case .settled: break
            case .attempted: attempts[entry.offset] = entry.attempt
            }
        }
        ranges = Self.merged(ranges)
    }

    /// One position and the few out of order: ranges that touch become one.
    private static func merged(_ ranges: [Range<UInt32>]) -> [Range<UInt32>] {
        var result: [Range<UInt32>] = []
        for range in ranges.sorted(by: { $0.lowerBound < $1.lowerBound }) {
            if let last = result.last, range.lowerBound <= last.upperBound {
                result[result.count - 1] = last.lowerBound..<max(last.upperBound, range.upperBound)
            } else {
                result.append(range)
            }
        }
        return result
    }

    /// Whether the record at `offset` is settled; offsets are asked for in rising order.
    mutating func isSettled(_ offset: UInt32) -> Bool {
        while next < ranges.count, ranges[next].upperBound <= offset { next += 1 }
        return next < ranges.count && ranges[next].lowerBound <= offset
    }
}
