import LinuxSystem

/// The profiles that one receiver has not settled: waiting, delayed by a retry, or open at the plugin.
///
///     age:    oldest ─ … ─ newest      every entry, open ones too; what is evicted is taken from its old end
///     ready:  first ─ … ─ last         what may be delivered now, in the order it will be
///     delayed: a heap by due time      what a retry holds back
///
/// Entries live in one array and name each other by index, so nothing here allocates per profile. A plain value: its
/// owner has the lock.
struct ReceiverQueue {
    /// Names an entry from ``append(_:now:)`` until ``remove(_:)``.
    struct Handle: Equatable, Sendable {
        fileprivate let index: Int32
    }

    struct Entry {
        /// nil while it is on disk alone.
        var profile: Profile?
        let sequence: UInt64
        /// What it counts against the queue's bounds.
        let byteCount: Int
        /// Where it is in the spool; nil when it is in memory alone.
        var position: SpoolPosition?
        /// Why it is to be put with the dead letters; nil while it may be delivered.
        var letter: Letter?
        /// Who waits for this profile to be settled, with `ack: delivered`.
        var acknowledgement: Acknowledgement?
        /// How many attempts were begun.
        var attempts = 0
        /// How often in a row it could not be read from the spool.
        var failedReads = 0
        /// What the plugin wants back at the next attempt.
        var progress: UInt64 = 0
        let acceptedAt: MonotonicTime
        fileprivate var place = Place.ready
        fileprivate var age = Links()
        fileprivate var order = Links()
        /// Tells a delayed entry from a later one at the same index.
        fileprivate var serial: UInt32 = 0

        init(
            _ profile: Profile?, sequence: UInt64, byteCount: Int, position: SpoolPosition? = nil, _ acknowledgement: Acknowledgement?,
            acceptedAt: MonotonicTime
        ) {
            (self.profile, self.sequence, self.byteCount) = (profile, sequence, byteCount)
            (self.position, self.acknowledgement, self.acceptedAt) = (position, acknowledgement, acceptedAt)
        }
    }

    /// What a dead letter says, and how it counts when it cannot become one.
    struct Letter: Sendable {
        let outcome: DeliveryOutcome
        let reason: DropReason
    }

    fileprivate enum Place { case ready, delayed, open }

    fileprivate struct Links {
        var previous: Int32 = -1
        var next: Int32 = -1
    }

    private struct Delay {
        let due: MonotonicTime
        let index: Int32
        let serial: UInt32
    }

    private var entries: [Entry?] = []
    private var free: [Int32] = []
    private var age = Ends()
    private var ready = Ends()
    private var delays: [Delay] = []
    private var nextSerial: UInt32 = 0

    private struct Ends {
        var first: Int32 = -1
        var last: Int32 = -1
        var count = 0
    }

    /// Entries of every place.
    private(set) var count = 0
    /// The bytes of their profiles.
    private(set) var byteCount = 0
    /// The most bytes there were since the queue was last seen empty by ``takePeak()``.
    private var peak = 0

    var hasReady: Bool { ready.first >= 0 }
    var readyCount: Int { ready.count }
    /// What is delivered next.
    var firstReady: Handle? { hasReady ? Handle(index: ready.first) : nil }

    subscript(handle: Handle) -> Entry {
        get {
            guard let entry = entries[Int(handle.index)] else { preconditionFailure("a settled entry was asked for") }
            return entry
        }
        set { entries[Int(handle.index)] = newValue }
    }

    /// Adds a profile, ready and newest.
    mutating func append(_ profile: Profile, _ acknowledgement: Acknowledgement? = nil, now: MonotonicTime) {
        append(
            Entry(
                profile, sequence: profile.sequence, byteCount: profile.byteCount, acknowledgement, acceptedAt: now))
    }

    /// Adds an entry, ready and newest.
    mutating func append(_ new: Entry) {
        nextSerial &+= 1
        var entry = new
        entry.serial = nextSerial
        let index: Int32
        if let reused = free.popLast() {
            index = reused
            entries[Int(index)] = entry
        } else {
            index = Int32(entries.count)
            entries.append(entry)
        }
        link(index, \.age, \.age, atEnd: true)
        link(index, \.ready, \.order, atEnd: true)
        count += 1
        byteCount += new.byteCount
        peak = max(peak, byteCount)
    }

    /// True when a backlog of at least so many bytes is over and ``takePeak()`` has not told it.
    func isOver(_ bytes: Int) -> Bool { count == 0 && peak >= bytes }

    /// How large the backlog was that is over now; 0 while there is one, and when it was told already.
    mutating func takePeak() -> Int {
        guard count == 0 else { return 0 }
        defer { peak = 0 }
        return peak
    }

    /// Takes the next ready entry; it is open until it is put back or removed.
    mutating func open() -> Handle? {
        guard hasReady else { return nil }
        let index = ready.first
        unlink(index, \.ready, \.order)
        entries[Int(index)]?.place = .open
        return Handle(index: index)
    }

    /// Puts an open entry back, behind everything that is ready.
    mutating func putBack(_ handle: Handle) {
        entries[Int(handle.index)]?.place = .ready
        link(handle.index, \.ready, \.order, atEnd: true)
    }

    /// Holds an open entry back until `due`; then it goes before what has not been tried yet.
    mutating func delay(_ handle: Handle, until due: MonotonicTime) {
        entries[Int(handle.index)]?.place = .delayed
        if delays.count > 2 * count + 64 {
            // Evicted entries leave their records behind; a sorted array is a heap.
            delays = delays.filter(isCurrent).sorted { $0.due < $1.due }
        }
        delays.append(Delay(due: due, index: handle.index, serial: self[handle].serial))
        var child = delays.count - 1
        while child > 0, delays[child].due < delays[(child - 1) / 2].due {
            delays.swapAt(child, (child - 1) / 2)
            child = (child - 1) / 2
        }
    }

    /// Makes ready what is due, or everything that waits when `now` is ``MonotonicTime/never``; the oldest goes first.
    mutating func wake(now: MonotonicTime) {
        guard let first = delays.first, first.due <= now else { return }
        var due: [(sequence: UInt64, index: Int32)] = []
        while let first = delays.first, first.due <= now {
            popDelay()
            guard isCurrent(first), let sequence = entries[Int(first.index)]?.sequence else { continue }
            due.append((sequence, first.index))
        }
        for (_, index) in due.sorted(by: { $0.sequence > $1.sequence }) {
            entries[Int(index)]?.place = .ready
            link(index, \.ready, \.order, atEnd: false)
        }
    }

    /// False for the heap record of an entry that was evicted while it waited.
    private func isCurrent(_ delay: Delay) -> Bool {
        guard let entry = entries[Int(delay.index)] else { return false }
        return entry.serial == delay.serial && entry.place == .delayed
    }

    /// When the first delayed entry is due.
    var nextDue: MonotonicTime { delays.first?.due ?? .never }

    private mutating func popDelay() {
        delays.swapAt(0, delays.count - 1)
        delays.removeLast()
        var parent = 0
        while true {
            let left = 2 * parent + 1
            guard left < delays.count else { return }
            let right = left + 1
            let child = right < delays.count && delays[right].due < delays[left].due ? right : left
            guard delays[child].due < delays[parent].due else { return }
            delays.swapAt(parent, child)
            parent = child
        }
    }

    /// The oldest entry that is not open: the one to evict.
    var oldestWaiting: Handle? {
        var index = age.first
        while index >= 0, let entry = entries[Int(index)] {
            if entry.place != .open { return Handle(index: index) }
            index = entry.age.next
        }
        return nil
    }

    /// Every entry, the oldest first.
    var handles: [Handle] {
        var handles: [Handle] = []
        var index = age.first
        while index >= 0, let entry = entries[Int(index)] {
            handles.append(Handle(index: index))
            index = entry.age.next
        }
        return handles
    }

    /// The last `count` entries.
    func newest(_ count: Int) -> [Handle] {
        var handles: [Handle] = []
        var index = age.last
        while handles.count < count, index >= 0, let entry = entries[Int(index)] {
            handles.append(Handle(index: index))
            index = entry.age.previous
        }
        return handles.reversed()
    }

    /// True while the entry is handed to the plugin, or is being put with the dead letters.
    func isOpen(_ handle: Handle) -> Bool { self[handle].place == .open }

    /// Forgets what a plugin wanted to remember of each entry, for another instance would not understand it.
    mutating func resetProgress() { for index in entries.indices { entries[index]?.progress = 0 } }

    /// Forgets an entry, wherever it is.
    mutating func remove(_ handle: Handle) {
        let entry = self[handle]
        if entry.place == .ready { unlink(handle.index, \.ready, \.order) }
        unlink(handle.index, \.age, \.age)
        entries[Int(handle.index)] = nil
        count -= 1
        byteCount -= entry.byteCount
        if count == 0 {
            // A backlog's worth of room goes back with the backlog; stale delays name entries that are gone.
            (entries, free, delays) = ([], [], [])
        } else {
            free.append(handle.index)
        }
    }

    private mutating func link(
        _ index: Int32, _ ends: WritableKeyPath<Self, Ends>, _ links: WritableKeyPath<Entry, Links>, atEnd: Bool
    ) {
        let neighbour = atEnd ? self[keyPath: ends].last : self[keyPath: ends].first
        entries[Int(index)]?[keyPath: links] = atEnd ? Links(previous: neighbour) : Links(next: neighbour)
        if neighbour >= 0 {
            if atEnd {
                entries[Int(neighbour)]?[keyPath: links].next = index
            } else {
                entries[Int(neighbour)]?[keyPath: links].previous = index
            }
        }
        if atEnd || neighbour < 0 { self[keyPath: ends].last = index }
        if !atEnd || neighbour < 0 { self[keyPath: ends].first = index }
        self[keyPath: ends].count += 1
    }

    private mutating func unlink(
        _ index: Int32, _ ends: WritableKeyPath<Self, Ends>, _ links: WritableKeyPath<Entry, Links>
    ) {
        guard let (previous, next) = entries[Int(index)].map({ ($0[keyPath: links].previous, $0[keyPath: links].next) })
        else { return }
        self[keyPath: ends].count -= 1
        if previous >= 0 { entries[Int(previous)]?[keyPath: links].next = next } else { self[keyPath: ends].first = next }
        if next >= 0 { entries[Int(next)]?[keyPath: links].previous = previous } else { self[keyPath: ends].last = previous }
    }
}
