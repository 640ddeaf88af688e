import LinuxSystem
package import Profiles

/// The position of one record in the spool.
package struct SpoolPosition: Hashable, Comparable, Sendable {
    package var segment: UInt64
    /// The number of its entry in the segment's index, from 0.
    var ordinal: UInt32
    package var offset: UInt32
    /// The size of the whole record including its head; also the number of bytes that the profile counts in a queue.
    package var length: UInt32
    /// The share of a queue that the profile counts against.
    package var share = ShareKey.unknown

    package static func < (a: SpoolPosition, b: SpoolPosition) -> Bool { (a.segment, a.ordinal) < (b.segment, b.ordinal) }
}

/// One segment as the running gateway knows it: a plain value, protected by the spool's lock.
package struct SpoolSegment {
    let header: SpoolHeader
    /// The offset of the first entry in the index file.
    var indexStart: Int
    /// The index entries in memory, while the segment grows or when the index file could not be written; otherwise nil.
    var entries: [IndexEntry]?
    private(set) var count = 0
    /// The size of the records file up to the end of the last published record.
    private(set) var recordsSize: Int
    /// The size of the `.settled` file.
    var settledSize = 0
    /// The difference from the monotonic clock to the clock that its records are dated by, in nanoseconds.
    var clockOffset: Int64 = 0
    /// True when each queue reads the segment with a separate cursor, because the start could not read it or its number exceeds
    /// ``SpoolFormat/largestNumber``.
    var isLate = false
    /// The number of records that each of the header's receivers has not settled; ``liveBytes`` has their bytes.
    private(set) var live: [Int]
    private(set) var liveBytes: [Int]
    /// The shares that these records count against, by receiver.
    private(set) var shares: [ShareUsage]

    var number: UInt64 { header.segment }
    var isSettled: Bool { live.allSatisfy { $0 == 0 } }
    /// The time since which ``isNearlySettled`` is true and nothing more is written to it, as far as the spool's thread has looked.
    var nearlySettledSince: MonotonicTime?
    /// Whether at most an eighth of it is needed.
    var isNearlySettled: Bool { liveBytes.reduce(0, +) * 8 <= recordsSize }
    /// The size of its files on disk.
    var byteCount: Int { recordsSize + indexStart + count * IndexEntry.size + settledSize }

    init(_ header: SpoolHeader, indexStart: Int) {
        self.header = header
        self.indexStart = indexStart
        entries = []
        recordsSize = header.size
        live = header.receivers.map { _ in 0 }
        liveBytes = live
        shares = live.map { _ in ShareUsage() }
    }

    /// The receiver's position in the header's list; nil when it is not in it.
    func slot(of receiver: String) -> Int? { header.receivers.firstIndex(of: receiver) }

    /// Adds a record that is on disk.
    ///
    /// - Parameter live: a bit for each receiver that has not settled the record; nil for all its receivers.
    mutating func add(_ entry: IndexEntry, live mask: UInt64? = nil) {
        entries?.append(entry)
        count += 1
        recordsSize = max(recordsSize, entry.end)
        let mask = mask ?? entry.receivers
        for slot in live.indices where mask >> UInt64(slot) & 1 == 1 {
            live[slot] += 1
            liveBytes[slot] += Int(entry.length)
            shares[slot].add(entry.share, bytes: Int(entry.length))
        }
    }

    mutating func settle(_ slot: Int, _ length: Int, _ share: ShareKey) {
        live[slot] -= 1
        liveBytes[slot] -= length
        shares[slot].remove(share, bytes: length)
    }
}

/// The records that one receiver has settled in one segment, and its attempts at the others.
struct SettledLedger {
    /// The settled offsets, sorted, without overlaps.
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

    /// Merges ranges that touch or overlap; usually one long range and a few out of order remain.
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

    /// Whether the record at `offset` is settled; must be called with rising offsets.
    mutating func isSettled(_ offset: UInt32) -> Bool {
        while next < ranges.count, ranges[next].upperBound <= offset { next += 1 }
        return next < ranges.count && ranges[next].lowerBound <= offset
    }
}
