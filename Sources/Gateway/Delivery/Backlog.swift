import LinuxSystem

/// What of a receiver's queue is in the spool: a cursor into it, and how much lies behind the cursor.
///
/// Before the cursor everything is settled or an entry of ``ReceiverQueue``; so memory holds the next few profiles, however
/// many wait.
struct Backlog {
    let reader: SpoolReceiver
    private var cursor = SpoolCursor()
    /// Cursors into segments that could be read only after the start; what is behind them comes first.
    private var late: [SpoolCursor] = []
    /// Their numbers, also of those that are read to the end.
    private var found: Set<UInt64> = []
    /// How often a cursor was moved.
    private var generation = 0
    /// Behind the cursor.
    private(set) var count: Int
    private(set) var byteCount: Int
    /// Whose they are.
    private(set) var shares: ShareUsage
    /// What was refused when it came, and lies behind the cursor: from one record through another, in order.
    private var refused: [(first: SpoolPosition, last: SpoolPosition)] = []
    private var lastWasRefused = false
    /// Who waits for a profile behind the cursor, by sequence.
    private var acknowledgements: [UInt64: Acknowledgement] = [:]
    /// The bytes of profiles from the spool that are in memory.
    var resident = 0
    /// Why the spool could not be read just now, and when it is tried again.
    private(set) var failure: ReadFailure?

    struct ReadFailure {
        let error: SystemError
        let retryAt: MonotonicTime
        /// A disk that cannot be read needs a person; a descriptor that is missing comes back.
        var health: Health { error.isLackOfDescriptors ? .degraded : .failed }
    }

    /// Entries beyond this wait behind the cursor.
    static let mostEntries = 4096
    /// Retries may hold more: each is an entry until it is settled.
    static let mostDelayed = 65_536
    /// Below so many entries that are ready, the next are read.
    static let fewReady = 256
    private static let step = 512
    /// Profiles stay in memory from their acceptance up to so many bytes.
    static let keptBytes = 4 << 20
    /// What deliveries may hold in memory together; one is always allowed.
    static let openBytes = 16 << 20

    init(_ reader: SpoolReceiver) {
        self.reader = reader
        (count, byteCount, shares) = reader.backlog
        let numbers = reader.spool.lateSegments(for: reader.name)
        (found, late) = (Set(numbers), numbers.map(SpoolCursor.init(only:)))
    }

    /// Takes a segment in that could be read only now.
    ///
    /// - Returns: false when it was counted already.
    mutating func find(_ segment: UInt64, profiles: Int, bytes: Int, _ usage: ShareUsage) -> Bool {
        guard found.insert(segment).inserted else { return false }
        late.append(SpoolCursor(only: segment))
        generation += 1
        (count, byteCount) = (count + profiles, byteCount + bytes)
        shares.add(usage)
        return true
    }

    /// Takes note that something of the spool could not be read just now.
    mutating func note(_ error: SystemError, _ now: MonotonicTime) { failure = ReadFailure(error: error, retryAt: now + .seconds(1)) }

    /// Takes note that something of it was read.
    mutating func noteRead() { failure = nil }

    /// Puts a profile that was just accepted behind the cursor.
    mutating func append(_ position: SpoolPosition, sequence: UInt64, _ acknowledgement: Acknowledgement?) {
        count += 1
        byteCount += Int(position.length)
        shares.add(position.share, bytes: Int(position.length))
        lastWasRefused = false
        if let acknowledgement { acknowledgements[sequence] = acknowledgement }
    }

    /// True when more senders wait than memory is for: the destination is away.
    var hasTooManyWaiting: Bool { acknowledgements.count > Self.mostWaiting }
    static let mostWaiting = 65_536

    /// True when everything in a segment is settled or an entry.
    func isPast(_ segment: UInt64) -> Bool {
        found.contains(segment) ? !late.contains { $0.only == segment } : cursor.isPast(segment)
    }

    /// Goes past a profile that became an entry at once.
    mutating func pass(_ position: SpoolPosition) {
        // Everything before is settled or an entry.
        (refused, lastWasRefused) = ([], false)
        cursor.pass(position)
        generation += 1
    }

    /// Settles a profile that is none of the queue's, and makes sure that the cursor does not find it.
    mutating func refuse(_ position: SpoolPosition) {
        reader.settle(position)
        guard count > 0 else { return pass(position) }
        if lastWasRefused {
            refused[refused.count - 1].last = position
        } else {
            refused.append((position, position))
        }
        lastWasRefused = true
    }

    /// Takes those who wait for profiles behind the cursor.
    mutating func takeAcknowledgements() -> [Acknowledgement] {
        defer { acknowledgements = [:] }
        return Array(acknowledgements.values)
    }

    /// A look at what follows the cursor.
    struct Read {
        fileprivate let reader: SpoolReceiver
        fileprivate let limit: Int
        fileprivate let generation: Int
        fileprivate var cursor: SpoolCursor
        fileprivate var result = Result<[SpooledProfile], SystemError>.success([])

        var isEmpty: Bool { if case .success(let found) = result { found.isEmpty } else { false } }
        /// True when it has found the end of a segment that could be read only after the start.
        fileprivate var isEndOfLate: Bool { cursor.isAlone && isEmpty }

        /// Reads; needs no lock, and may wait for the disk.
        mutating func run() {
            do throws(SystemError) { result = .success(try reader.next(limit, after: &cursor)) } catch { result = .failure(error) }
        }
    }

    /// What to read next.
    var toRead: Read { Read(reader: reader, limit: min(count, Self.step), generation: generation, cursor: late.first ?? cursor) }

    /// Takes the next entries from behind the cursor, in place.
    ///
    /// - Returns: nil when there are none although there should be: so many records are lost.
    mutating func next(_ now: MonotonicTime, owner: UInt64) -> [ReceiverQueue.Entry]? {
        while true {
            var read = toRead
            read.run()
            if read.isEmpty, !read.isEndOfLate { return nil }
            if let entries = take(read, now, owner: owner) { return entries }
        }
    }

    /// Takes the entries that a look has found.
    ///
    /// - Returns: nil when it has found none that are wanted, or the cursor was moved meanwhile; none after a failure.
    mutating func take(_ read: Read, _ now: MonotonicTime, owner: UInt64) -> [ReceiverQueue.Entry]? {
        guard read.generation == generation else { return nil }
        var found: [SpooledProfile]
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

    private mutating func move(to read: Read) {
        generation += 1
        if read.isEndOfLate {
            late.removeFirst()
        } else if read.cursor.isAlone {
            late[0] = read.cursor
        } else {
            cursor = read.cursor
        }
    }

    /// Leaves out what was refused.
    ///
    /// - Returns: true when nothing is left of what was found.
    private mutating func dropRefused(_ found: inout [SpooledProfile]) -> Bool {
        guard let lastRead = found.last?.position else { return false }
        while let run = refused.first, !(lastRead < run.first) {
            found.removeAll { !($0.position < run.first) && !(run.last < $0.position) }
            // The rest of a long run is passed at once.
            if lastRead < run.last { cursor.pass(run.last) }
            refused.removeFirst()
        }
        if refused.isEmpty { lastWasRefused = false }
        return found.isEmpty
    }

    private mutating func entry(_ record: SpooledProfile, _ now: MonotonicTime, _ owner: UInt64) -> ReceiverQueue.Entry {
        var entry = ReceiverQueue.Entry(
            nil, sequence: record.sequence, byteCount: Int(record.position.length), position: record.position,
            acknowledgements.removeValue(forKey: record.sequence),
            acceptedAt: SpoolClock.time(of: record.time, offset: record.clockOffset, now: now))
        entry.attempts = record.attempt.count
        // To another plugin, or another config, it says nothing.
        if record.attempt.owner == owner { entry.progress = record.attempt.progress }
        return entry
    }

    /// Forgets what cannot be found; answers how many that are.
    mutating func giveUp() -> Int {
        defer { (count, byteCount, shares, refused, lastWasRefused, late) = (0, 0, ShareUsage(), [], false, []) }
        generation += 1
        return count
    }
}
