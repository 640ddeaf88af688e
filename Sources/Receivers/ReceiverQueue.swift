import LinuxSystem
import Profiles

/// The profiles that one receiver has not settled: waiting, delayed by a retry, or open at the plugin.
///
///     age:     oldest ─ … ─ newest     every entry, including open ones; entries are evicted from the old end
///     fresh:   first ─ … ─ last        ready, and never tried
///     due:     first ─ … ─ last        ready, and tried before
///     letters: first ─ … ─ last        ready to be written as dead letters
///     delayed: a heap by due time      delayed by a retry
///
/// Fresh and due entries take turns, so that neither a backlog of new profiles nor many retries delay the others. Fresh entries of
/// different shares take turns, so that one tenant's backlog does not delay another tenant.
/// Entries are stored in one array and link to each other by index, so no operation allocates memory per profile. A plain value,
/// protected by its owner's lock.
struct ReceiverQueue {
    /// Identifies an entry from ``append(_:)`` until ``remove(_:)``.
    struct Handle: Equatable, Sendable {
        let index: Int32
    }

    /// An unused one is empty and in ``free``.
    private(set) var entries: [Entry] = []
    private(set) var links = QueueLinks()
    private var free: [Int32] = []
    private(set) var age = QueueLinks.Ends()
    private var fresh = QueueLinks.Ends()
    /// The fresh entries of each share, and the order in which shares take turns; an empty share is removed when its turn comes.
    private var lanes = ShareKey.Table<QueueLinks.Ends>()
    private var turns: [ShareKey] = []
    private var due = QueueLinks.Ends()
    private var letters = QueueLinks.Ends()
    private var delays = DelayHeap()
    private var nextSerial: UInt32 = 0
    /// Whether a due entry is next when both fresh and due entries are ready.
    private var isDueNext = true
    /// Whether the newest fresh entry is next while both ends of the fresh entries take turns.
    private var isNewestNext = true

    private enum List { case age, fresh, due, letters }

    private subscript(list: List) -> QueueLinks.Ends {
        get {
            switch list {
            case .age: age
            case .fresh: fresh
            case .due: due
            case .letters: letters
            }
        }
        set {
            switch list {
            case .age: age = newValue
            case .fresh: fresh = newValue
            case .due: due = newValue
            case .letters: letters = newValue
            }
        }
    }

    /// The number of all entries.
    private(set) var count = 0
    /// The bytes of all entries' profiles.
    private(set) var byteCount = 0
    /// The shares that all entries count against.
    private(set) var shares = ShareUsage()
    /// The largest ``byteCount`` since ``takePeak()`` last found the queue empty.
    private var peak = 0

    /// The number of entries that are ready and were never tried.
    var freshCount: Int { fresh.count }
    /// The number of entries that may be delivered now.
    var readyCount: Int { fresh.count + due.count }
    /// The number of waiting entries, ready or delayed, that were tried before.
    private(set) var triedCount = 0
    /// The next entry to be written as a dead letter.
    var firstLetter: Handle? { letters.first < 0 ? nil : Handle(index: letters.first) }
    /// The newest ready entry that was never tried.
    var newestFresh: Handle? { fresh.last < 0 ? nil : Handle(index: fresh.last) }

    /// Returns the entry to be delivered next.
    ///
    /// - Parameter fromBothEnds: whether the newest fresh entries take turns with the oldest.
    func nextReady(fromBothEnds: Bool = false) -> Handle? {
        if due.first >= 0, isDueNext || fresh.first < 0 { return Handle(index: due.first) }
        if fromBothEnds, isNewestNext { return newestFresh }
        // All fresh entries are of one share.
        if turns.count == 1 { return fresh.first < 0 ? nil : Handle(index: fresh.first) }
        for share in turns { if let first = lanes[share]?.first, first >= 0 { return Handle(index: first) } }
        return nil
    }

    /// An entry, which is read and changed in place: a copy would count references to all that it holds.
    subscript(handle: Handle) -> Entry {
        _read {
            precondition(entries[Int(handle.index)].place != .unused, "a settled entry was asked for")
            yield entries[Int(handle.index)]
        }
        _modify {
            precondition(entries[Int(handle.index)].place != .unused, "a settled entry was asked for")
            yield &entries[Int(handle.index)]
        }
    }

    /// Adds a profile as the newest entry, ready for delivery.
    mutating func append(_ profile: ReceivedProfile, _ acknowledgement: Acknowledgement? = nil, now: MonotonicTime) {
        append(
            Entry(
                profile, sequence: profile.sequence, byteCount: profile.byteCount, acknowledgement, acceptedAt: now))
    }

    /// Adds an entry as the newest, ready for delivery.
    mutating func append(_ entry: consuming Entry) {
        let (share, bytes) = (entry.share, entry.byteCount)
        let index = free.popLast() ?? Int32(entries.count)
        if Int(index) < entries.count {
            entries[Int(index)] = consume entry
        } else {
            entries.append(consume entry)
            links.addEntry()
        }
        entries[Int(index)].serial = takeSerial()
        link(index, .age, .age, atEnd: true)
        makeReady(index, atEnd: true)
        count += 1
        byteCount += bytes
        shares.add(share, bytes: bytes)
        peak = max(peak, byteCount)
    }

    /// Whether a backlog of at least `bytes` bytes has ended since ``forgetPeak()``.
    func isOver(_ bytes: Int) -> Bool { count == 0 && peak >= bytes }
    mutating func forgetPeak() { peak = 0 }

    /// Marks a waiting entry as open, until it is put back, delayed or removed.
    mutating func open(_ handle: Handle) {
        if self[handle].place == .due || self[handle].place == .fresh { isDueNext = self[handle].place == .fresh }
        let share = self[handle].place == .fresh ? self[handle].share : nil
        if share != nil { isNewestNext = handle.index != fresh.last }
        stopWaiting(handle.index)
        if let share { endTurn(of: share) }
        // A new serial makes any record of the entry in the heap obsolete.
        let serial = takeSerial()
        entries[Int(handle.index)].serial = serial
        entries[Int(handle.index)].place = .open
    }

    /// Ends a share's turn: moves it behind the other shares if it was its turn, and removes empty shares before it.
    private mutating func endTurn(of share: ShareKey) {
        guard let turn = turns.firstIndex(where: { $0 == share || lanes[$0]?.count ?? 0 > 0 }) else { return }
        let isItsTurn = turns[turn] == share
        for empty in turns[..<turn] { lanes[empty] = nil }
        turns.removeFirst(turn + (isItsTurn ? 1 : 0))
        guard isItsTurn, let lane = lanes[share] else { return }
        if lane.count == 0 { lanes[share] = nil } else { turns.append(share) }
    }

    /// Removes empty shares when there are many, because their turns may not come for a long time.
    private mutating func forgetEmptyLanes() {
        guard turns.count > 2 * fresh.count + 64 else { return }
        for (share, lane) in lanes.all where lane.count == 0 { lanes[share] = nil }
        turns.removeAll { lanes[$0] == nil }
    }

    /// Makes an open entry ready again, after all ready entries of its kind.
    mutating func putBack(_ handle: Handle) { makeReady(handle.index, atEnd: true) }

    /// Delays an open entry until `due`; then it is put before the ready entries of its kind.
    mutating func delay(_ handle: Handle, until due: MonotonicTime) {
        entries[Int(handle.index)].place = .delayed
        if self[handle].isTried { triedCount += 1 }
        if delays.count > 2 * count + 64 { delays = DelayHeap(delays.all.filter(isCurrent)) }
        delays.push(DelayHeap.Delay(due: due, index: handle.index, serial: self[handle].serial))
    }

    /// Makes delayed entries ready that are due; the oldest goes first.
    mutating func wake(now: MonotonicTime) {
        guard let first = delays.first, first.due <= now else { return }
        var woken: [Int32] = []
        while let first = delays.first, first.due <= now {
            delays.pop()
            if isCurrent(first) { woken.append(first.index) }
        }
        wake(woken)
    }

    /// Makes all delayed entries ready, due or not, except those for which `isHeld` is true.
    mutating func wakeAll(except isHeld: (Entry) -> Bool = { _ in false }) {
        let current = delays.all.filter(isCurrent)
        let held = current.filter { isHeld(entries[Int($0.index)]) }
        let kept = Set(held.map(\.index))
        delays = DelayHeap(held)
        wake(current.map(\.index).filter { !kept.contains($0) })
    }

    private mutating func wake(_ indices: [Int32]) {
        func sequence(_ index: Int32) -> UInt64 { entries[Int(index)].sequence }
        for index in indices.sorted(by: { sequence($0) > sequence($1) }) {
            stopWaiting(index)
            makeReady(index, atEnd: false)
        }
    }

    private mutating func takeSerial() -> UInt32 {
        nextSerial &+= 1
        return nextSerial
    }

    /// Adds an entry that is in no list to the list for its kind.
    private mutating func makeReady(_ index: Int32, atEnd: Bool) {
        let (share, isTried) = (entries[Int(index)].share, entries[Int(index)].isTried)
        let place: Place = entries[Int(index)].letter != nil ? .letter : isTried ? .due : .fresh
        entries[Int(index)].place = place
        if place == .due { triedCount += 1 }
        if let list = Self.list(of: place) { link(index, list, .order, atEnd: atEnd) }
        guard place == .fresh else { return }
        forgetEmptyLanes()
        let known = lanes[share]
        var lane = known ?? QueueLinks.Ends()
        links.link(index, &lane, .lane, atEnd: atEnd)
        lanes[share] = lane
        if known == nil { turns.append(share) }
    }

    /// Removes an entry from the list that it waits in; its record in the heap stays and becomes obsolete.
    private mutating func stopWaiting(_ index: Int32) {
        let (place, share) = (entries[Int(index)].place, entries[Int(index)].share)
        if let list = Self.list(of: place) { unlink(index, list, .order) }
        if place == .fresh, var lane = lanes[share] {
            links.unlink(index, &lane, .lane)
            lanes[share] = lane
        }
        if place == .due || (place == .delayed && entries[Int(index)].isTried) { triedCount -= 1 }
    }

    private static func list(of place: Place) -> List? {
        switch place {
        case .fresh: .fresh
        case .due: .due
        case .letter: .letters
        case .delayed, .open, .unused: nil
        }
    }

    /// Whether a record in the heap still applies; false if its entry was removed, opened or made ready meanwhile.
    private func isCurrent(_ delay: DelayHeap.Delay) -> Bool {
        entries[Int(delay.index)].serial == delay.serial && entries[Int(delay.index)].place == .delayed
    }

    /// The due time of the first delayed entry.
    var nextDue: MonotonicTime { delays.first?.due ?? .never }

    /// True while the entry is at the plugin, or is being written as a dead letter.
    func isOpen(_ handle: Handle) -> Bool { self[handle].place == .open }

    /// Resets the progress and refusals of all entries, because another instance may have another destination.
    mutating func resetProgress() {
        for index in entries.indices {
            entries[index].progress = 0
            entries[index].refusals = Refusals()
        }
    }

    /// Removes an entry from the queue, whatever its place.
    mutating func remove(_ handle: Handle) {
        stopWaiting(handle.index)
        unlink(handle.index, .age, .age)
        let (share, bytes) = (self[handle].share, self[handle].byteCount)
        entries[Int(handle.index)].clear()
        count -= 1
        byteCount -= bytes
        shares.remove(share, bytes: bytes)
        if count == 0 { removeAll() } else { free.append(handle.index) }
    }

    /// Frees the arrays of a large backlog when it has ended; small ones are used again. The remaining delays are all obsolete.
    private mutating func removeAll() {
        delays = DelayHeap()
        guard entries.capacity <= 256 else { return (entries, links, free, lanes, turns) = ([], QueueLinks(), [], ShareKey.Table(), []) }
        entries.removeAll(keepingCapacity: true)
        links.removeAll()
        free.removeAll(keepingCapacity: true)
        lanes.removeAll(keepingCapacity: true)
        turns.removeAll(keepingCapacity: true)
    }

    private mutating func link(_ index: Int32, _ list: List, _ chain: QueueLinks.Chain, atEnd: Bool) {
        var ends = self[list]
        links.link(index, &ends, chain, atEnd: atEnd)
        self[list] = ends
    }

    private mutating func unlink(_ index: Int32, _ list: List, _ chain: QueueLinks.Chain) {
        var ends = self[list]
        links.unlink(index, &ends, chain)
        self[list] = ends
    }
}
