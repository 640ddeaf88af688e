import Glibc
import LinuxSystem
import Profiles
import Telemetry

/// Keeps the spool within its bounds, and removes segments that no receiver needs.
extension SpoolJournal {
    enum Eviction: Equatable {
        case freed
        /// This receiver needs the segment and does not drop its profiles.
        case refused(String)
        /// The open deliveries' records cannot be copied, because no descriptor is free.
        case noDescriptor(SystemError)
        /// No segment can be removed.
        case nothing
    }

    /// Evicts segments until `size` more bytes may be written, after copying forward the little that is left in the oldest ones;
    /// evicts nothing if that could not free enough.
    func makeRoom(for size: Int) throws(SpoolFailure) {
        if let limit = config.maxBytes, size > limit { throw .system(SystemError("spool.max_bytes \(limit)", code: ENOSPC)) }
        guard Room(spool).lack(for: size, spool.size.bytes) != nil else { return }
        // A removed segment that is being synced or freed still has blocks.
        waitForSyncs()
        _ = waitForFreed()
        let room = Room(spool)
        while room.lack(for: size, spool.size.bytes) != nil, compactOldest() {}
        guard let lack = room.lack(for: size, spool.size.bytes) else { return }
        let (evictable, keeper) = spool.evictable
        if let rest = room.lack(for: size, spool.size.bytes - evictable) { throw keeper.map { .full(receiver: $0) } ?? .system(rest) }
        // Records of open deliveries are copied to the end of the journal, so an eviction may free little; the loop ends after one
        // pass over the segments.
        for _ in 0...(spool.size.segments + 1) where room.lack(for: size, spool.size.bytes) != nil {
            switch evictOldest() {
            case .freed: continue
            case .refused(let receiver): throw .full(receiver: receiver)
            case .noDescriptor(let error): throw .noDescriptor(error)
            case .nothing: throw .system(lack)
            }
        }
        if let rest = room.lack(for: size, spool.size.bytes) { throw .system(rest) }
    }

    /// The free space, measured once, because some file systems return space only some time after a file is removed.
    private struct Room {
        let config: SpoolConfig
        /// The bytes that were free, and the bytes that the spool took at that time.
        let available: Int
        let taken: Int

        init(_ spool: Spool) {
            (config, taken) = (spool.config, spool.size.bytes)
            // If the free space cannot be read, nothing is evicted for it.
            available = (try? spool.folder.directory.spool().space().available) ?? .max / 2
        }

        /// The error for a write of `size` more bytes when the spool takes `bytes`; nil when there is room.
        func lack(for size: Int, _ bytes: Int) -> SystemError? {
            if let limit = config.maxBytes, bytes + size > limit { return SystemError("spool.max_bytes \(limit)", code: ENOSPC) }
            guard let reserve = config.minFreeBytes, available + taken - bytes - size < reserve else { return nil }
            return SystemError("spool.min_free_bytes \(reserve)", code: ENOSPC)
        }
    }

    /// Removes the oldest removable segment and drops the profiles that wait in it. Profiles of shares with less than an equal part
    /// of a queue are copied forward instead, from the oldest segment of which they take at most half.
    func evictOldest() -> Eviction {
        // An open file would keep its blocks.
        waitForSyncs()
        if waitForFreed() || removeSettled() || compactOldest() { return .freed }
        if let result = evict(sparing: true) { return result }
        return evict(sparing: false) ?? .nothing
    }

    /// Removes the oldest removable segment; `isSparing` says whether profiles of small shares are copied forward.
    ///
    /// - Returns: nil when there is no such segment.
    private func evict(sparing isSparing: Bool) -> Eviction? {
        var spared: [String: Set<ShareKey>] = [:]
        for number in spool.state.withLock({ $0.order }) {
            let (owners, strangers) = spool.owners(of: number)
            if let (name, _) = owners.first(where: { $0.client.spoolRule == .reject }) { return isSparing ? nil : .refused(name) }
            if isSparing {
                for (name, client) in owners where spared[name] == nil { spared[name] = client.spoolSpared }
                guard spool.isWorthSparing(number, spared) else { continue }
            }
            if spool.state.withLock({ $0.active == number }) {
                seal()
                waitForSyncs()
            }
            for (name, client) in owners { client.spoolNeedsRoom(in: number, sparing: spared[name] ?? []) }
            for stranger in strangers { dropAll(of: stranger, in: number) }
            // Only records that must stay are left. If a full disk has no room for their copies, a younger segment has to be
            // evicted.
            if removeSettled() { return .freed }
            switch copyForward(number) {
            case .done: return .freed
            // Without a descriptor the younger segments could not be copied either, and their profiles would be dropped in vain.
            case .failed(let error?) where error.isLackOfDescriptors: return .noDescriptor(error)
            // If there is no room for a copy, no share can be spared: the oldest segment is dropped as a whole.
            case .failed(let error?) where isSparing && error.isLackOfRoom: return nil
            case .failed: continue
            }
        }
        return nil
    }

    /// Drops all profiles in a segment of a receiver that is no longer in the config.
    private func dropAll(of receiver: String, in number: UInt64) {
        let reader = SpoolQueue(spool, receiver, knownAtStart: [number: .max])
        var cursor = SpoolCursor(only: number)
        var count = 0
        // Records that cannot be read are not settled.
        while let found = try? reader.next(1024, after: &cursor), !found.isEmpty {
            for record in found { reader.settle(record.position) }
            count += found.count
        }
        Log.warning("profiles dropped", ["receiver": receiver, "count": "\(count) spool_full"])
    }

    /// Removes the segments that all their receivers have settled.
    ///
    /// - Parameter isUrgent: whether their room is needed now; otherwise the blocks are freed on another thread.
    /// - Returns: whether there was such a segment with records; one without, which a failed write leaves, takes hardly any room.
    func removeSettled(isUrgent: Bool = true) -> Bool {
        let (settled, hasRecords) = spool.state.withLock { state in
            let settled = state.order.filter { $0 != state.active && state.segments[$0]?.isSettled == true }
            let hasRecords = settled.contains { (state.segments[$0]?.count ?? 0) > 0 }
            forget(settled, &state)
            return (settled, hasRecords)
        }
        for number in settled { remove(number, isUrgent: isUrgent) }
        return hasRecords
    }

    /// Removes a segment's files, or schedules another attempt: as long as they exist a start would deliver their profiles again.
    func remove(_ number: UInt64, isUrgent: Bool = true) {
        // An open file would keep its blocks.
        if settledFile?.segment == number { settledFile = nil }
        if !spool.folder.remove(number, release: isUrgent ? nil : free) { unremoved.append(number) }
    }

    /// Frees a file's blocks on another thread, or on this one when the other is behind or cannot be started.
    private func free(_ file: RemovedFile) {
        guard !releaseThread.isWanted else { return }
        spool.freeing.withLock { $0 += file.byteCount }
        do throws(SystemError) {
            try releaseThread.submit(file) { [spool] files in
                for file in files {
                    file.free()
                    spool.noteFreed(file)
                }
            }
        } catch { spool.noteFreed(file) }
    }

    /// Waits until the blocks of removed segments are free; returns whether some were not.
    private func waitForFreed() -> Bool {
        guard spool.freeing.withLock({ $0 > 0 }) else { return false }
        return spool.freeing.wait(until: .never) { $0 == 0 }
    }

    func forget(_ numbers: [UInt64], _ state: inout Spool.State) {
        guard !numbers.isEmpty else { return }
        for number in numbers { state.segments[number] = nil }
        state.order.removeAll { numbers.contains($0) }
    }
}

extension Spool {
    fileprivate func noteFreed(_ file: RemovedFile) {
        freeing.withLock { $0 -= file.byteCount }
        freeing.signal()
    }

    /// The bytes that eviction could free, from the oldest segment up to the first that a receiver does not release; and the name
    /// of that receiver.
    ///
    /// Records of open deliveries are not counted, because they are kept as copies.
    fileprivate var evictable: (bytes: Int, keeper: String?) {
        let (numbers, sizes, clients) = state.withLock { state in
            (state.order, state.segments.mapValues(\.byteCount), Array(state.clients.values))
        }
        let open = clients.flatMap(\.spoolOpen).map { (RecordPlace(segment: $0.segment, offset: $0.offset), Int($0.length)) }
        var bytes = -Dictionary(open, uniquingKeysWith: { $1 }).values.reduce(0, +)
        for number in numbers {
            if let keeper = owners(of: number).owners.first(where: { $0.client.spoolRule == .reject }) { return (bytes, keeper.name) }
            bytes += sizes[number] ?? 0
        }
        return (bytes, nil)
    }

    /// Whether at least half of the bytes needed of a segment are freed when the given shares of each receiver are spared.
    fileprivate func isWorthSparing(_ number: UInt64, _ spared: [String: Set<ShareKey>]) -> Bool {
        state.withLock { state in
            guard let segment = state.segments[number] else { return false }
            let kept = spared.reduce(0) { sum, spared in
                guard let slot = segment.slot(of: spared.key) else { return sum }
                return sum + segment.shares[slot].bytes(of: spared.value)
            }
            return kept <= segment.liveBytes.reduce(0, +) / 2
        }
    }

    /// The receivers that still need a segment: those with a queue, and those without one ("strangers").
    func owners(of number: UInt64) -> (owners: [(name: String, client: any SpoolClient)], strangers: [String]) {
        state.withLock { state in
            guard let segment = state.segments[number] else { return ([], []) }
            let names = zip(segment.header.receivers, segment.live).filter { $0.1 > 0 }.map(\.0)
            return (
                names.compactMap { name in state.clients[name].map { (name, $0) } }, names.filter { state.clients[$0] == nil }
            )
        }
    }
}
