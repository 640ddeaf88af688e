import LinuxSystem
import PluginHost
import Profiles
import SpoolStore

/// The part of a receiver's queue that is only in the spool: a cursor, and the number of profiles after it.
///
/// Every profile before the cursor is settled or an entry of ``ReceiverQueue``, so memory holds only the next few profiles, however
/// many wait.
///
/// Protected by the receiver's lock, which it does not leave. An object, because a plain value would be copied where it is only read.
final class Backlog {
    let reader: SpoolQueue
    private var cursor = SpoolCursor()
    /// Cursors into late segments; the records after them are read first.
    private var late: [SpoolCursor] = []
    /// The numbers of all late segments, including those that have been read to the end.
    private var found: Set<UInt64> = []
    /// The number of times that a cursor was moved.
    private var generation = 0
    /// The number of profiles after the cursor; ``byteCount`` has their bytes.
    private(set) var count: Int
    private(set) var byteCount: Int
    /// The shares that these profiles count against.
    private(set) var shares: ShareUsage
    /// Profiles that were refused on arrival and lie after the cursor: ranges from a first to a last record, in order.
    private var refused: [(first: SpoolPosition, last: SpoolPosition)] = []
    private var lastWasRefused = false
    /// The acknowledgements of profiles after the cursor, by sequence.
    private var acknowledgements: [UInt64: Acknowledgement] = [:]
    /// The bytes of profiles in memory that are also in the spool.
    var resident = 0
    /// The error of the last read from the spool, and the time of the next attempt; nil when it succeeded.
    private(set) var failure: ReadFailure?

    struct ReadFailure {
        let error: SystemError
        let retryAt: MonotonicTime
        /// A disk that cannot be read needs an operator; a shortage of descriptors passes.
        var health: Health { error.isLackOfDescriptors ? .degraded : .failed }
    }

    /// The most entries in memory; further profiles wait after the cursor.
    static let mostEntries = 4096
    /// The most entries in memory while retries wait, each of which stays an entry until it is settled.
    static let mostDelayed = 65_536
    /// The number of ready entries below which the next ones are read.
    static let fewReady = 256
    private static let step = 512
    /// The most bytes of profiles that are kept in memory from their acceptance on.
    static let keptBytes = 4 << 20
    /// The most bytes that open deliveries hold in memory together; a single delivery is always allowed.
    static let openBytes = 16 << 20

    init(_ reader: SpoolQueue) {
        self.reader = reader
        (count, byteCount, shares) = reader.backlog
        let numbers = reader.spool.lateSegments(for: reader.name)
        (found, late) = (Set(numbers), numbers.map(SpoolCursor.init(only:)))
    }

    /// Adds a segment that could not be read before.
    ///
    /// - Returns: false when the segment was counted already.
    func find(_ segment: UInt64, profiles: Int, bytes: Int, _ usage: ShareUsage) -> Bool {
        guard found.insert(segment).inserted else { return false }
        late.append(SpoolCursor(only: segment))
        generation += 1
        (count, byteCount) = (count + profiles, byteCount + bytes)
        shares.add(usage)
        return true
    }

    /// Notes that a read from the spool failed; the next attempt is in a second.
    func note(_ error: SystemError, _ now: MonotonicTime) { failure = ReadFailure(error: error, retryAt: now + .seconds(1)) }

    /// Notes that a read from the spool succeeded.
    func noteRead() { failure = nil }

    /// Adds a newly accepted profile after the cursor.
    func append(_ position: SpoolPosition, sequence: UInt64, _ acknowledgement: Acknowledgement?) {
        count += 1
        byteCount += Int(position.length)
        shares.add(position.share, bytes: Int(position.length))
        lastWasRefused = false
        if let acknowledgement { acknowledgements[sequence] = acknowledgement }
    }

    /// True when more senders wait than memory should be spent on, because the destination is away.
    var hasTooManyWaiting: Bool { acknowledgements.count > mostWaiting }
    /// The most senders that may wait for profiles behind the cursor.
    var mostWaiting = 65_536

    /// True when every record of a segment is settled or an entry.
    func isPast(_ segment: UInt64) -> Bool {
        found.contains(segment) ? !late.contains { $0.only == segment } : cursor.isPast(segment)
    }

    /// Moves the cursor past a new profile that became an entry at once.
    func pass(_ position: SpoolPosition) {
        // Everything before it is settled or an entry, so the refused profiles need not be remembered.
        (refused, lastWasRefused) = ([], false)
        cursor.pass(position)
        generation += 1
    }

    /// Settles a profile that the queue refuses, and makes sure that the cursor skips it.
    func refuse(_ position: SpoolPosition) {
        reader.settle(position)
        guard count > 0 else { return pass(position) }
        if lastWasRefused {
            refused[refused.count - 1].last = position
        } else {
            refused.append((position, position))
        }
        lastWasRefused = true
    }

    /// Removes and returns the acknowledgements of profiles after the cursor.
    func takeAcknowledgements() -> [Acknowledgement] {
        defer { acknowledgements = [:] }
        return Array(acknowledgements.values)
    }

    /// A read of the records after a cursor, made without the receiver's lock.
    struct Read {
        fileprivate let reader: SpoolQueue
        fileprivate let limit: Int
        fileprivate let generation: Int
        fileprivate var cursor: SpoolCursor
        fileprivate var result = Result<[WaitingRecord], SystemError>.success([])

        var isEmpty: Bool { if case .success(let found) = result { found.isEmpty } else { false } }
        /// True when it has reached the end of a late segment.
        fileprivate var isEndOfLate: Bool { cursor.isAlone && isEmpty }

        /// Reads the records; needs no lock, and may wait for the disk.
        mutating func run() {
            do throws(SystemError) { result = .success(try reader.next(limit, after: &cursor)) } catch { result = .failure(error) }
        }
    }

    /// The next read to be made.
    var toRead: Read { Read(reader: reader, limit: min(count, Self.step), generation: generation, cursor: late.first ?? cursor) }

    /// Reads the next entries after the cursor, with the lock held.
    ///
    /// - Returns: nil when no records are found although ``count`` says that there are; they are lost.
    func next(_ now: MonotonicTime, owner: UInt64) -> [ReceiverQueue.Entry]? {
        while true {
            var read = toRead
            read.run()
            if read.isEmpty, !read.isEndOfLate { return nil }
            if let entries = entries(of: read, now, owner: owner) { return entries }
        }
    }

    /// Converts the records that a read has found to entries, and moves the cursor.
    ///
    /// - Returns: nil when it has found none that are wanted, or the cursor was moved meanwhile; an empty array after a failure.
    func entries(of read: Read, _ now: MonotonicTime, owner: UInt64) -> [ReceiverQueue.Entry]? {
        guard read.generation == generation else { return nil }
        var found: [WaitingRecord]
        switch read.result {
        case .success(let records): (found, failure) = (records, nil)
        case .failure(let error):
            failure = ReadFailure(error: error, retryAt: now + .seconds(1))
            return []
        }
        move(to: read)
        guard !dropRefused(&found), !found.isEmpty else { return nil }
        return found.map { record in
            count -= 1
            byteCount -= Int(record.position.length)
            shares.remove(record.position.share, bytes: Int(record.position.length))
            return entry(record, now, owner)
        }
    }

    private func move(to read: Read) {
        generation += 1
        if read.isEndOfLate {
            late.removeFirst()
        } else if read.cursor.isAlone {
            late[0] = read.cursor
        } else {
            cursor = read.cursor
        }
    }

    /// Removes refused profiles from the records found.
    ///
    /// - Returns: true when no record is left.
    private func dropRefused(_ found: inout [WaitingRecord]) -> Bool {
        guard let lastRead = found.last?.position else { return false }
        while let run = refused.first, !(lastRead < run.first) {
            found.removeAll { !($0.position < run.first) && !(run.last < $0.position) }
            // The rest of a long range is skipped at once.
            if lastRead < run.last { cursor.pass(run.last) }
            refused.removeFirst()
        }
        if refused.isEmpty { lastWasRefused = false }
        return found.isEmpty
    }

    private func entry(_ record: WaitingRecord, _ now: MonotonicTime, _ owner: UInt64) -> ReceiverQueue.Entry {
        var entry = ReceiverQueue.Entry(
            nil, sequence: record.sequence, byteCount: Int(record.position.length), position: record.position,
            acknowledgements.removeValue(forKey: record.sequence),
            acceptedAt: SpoolClock.time(of: record.time, offset: record.clockOffset, now: now))
        entry.attempts = record.attempt.count
        // The progress is meaningless to another plugin or config.
        if record.attempt.owner == owner { entry.progress = record.attempt.progress }
        return entry
    }

    /// Forgets the profiles after the cursor, which cannot be found; returns how many they are.
    func countRestAsLost() -> Int {
        defer { (count, byteCount, shares, refused, lastWasRefused, late) = (0, 0, ShareUsage(), [], false, []) }
        generation += 1
        return count
    }
}
