import Glibc
import LinuxSystem
import Synchronization
import Telemetry

/// How the journal opens the segment that it writes to, and ends it.
extension SpoolJournal {
    /// Returns the segment to write to; waits up to a second while no descriptor is free. Requests that arrive meanwhile do not
    /// start a wait of their own.
    func openPatiently(for receivers: [String], _ size: Int) throws(SystemError) -> OpenSegment {
        while true {
            do throws(SystemError) {
                let opened = try open(for: receivers, size)
                if lacksDescriptorSince != nil { Log.info("the spool has descriptors again") }
                lacksDescriptorSince = nil
                return opened
            } catch {
                guard error.isLackOfDescriptors else { throw error }
                // A closed segment has its files open until its sync has ended.
                guard syncs.isEmpty else {
                    waitForSyncs()
                    continue
                }
                if lacksDescriptorSince == nil { Log.warning("the spool waits for a free descriptor", ["error": "\(error)"]) }
                let since = lacksDescriptorSince ?? .now
                lacksDescriptorSince = since
                guard MonotonicTime.now.since(since) < Self.descriptorWait.longest else { throw error }
                usleep(Self.descriptorWait.step)
            }
        }
    }

    /// Returns the segment to write to: the open one if it has room and knows all receivers, otherwise a new one.
    func open(for receivers: [String], _ size: Int) throws(SystemError) -> OpenSegment {
        if let segment, segment.isEmpty || segment.size + size <= config.segmentBytes,
            receivers.allSatisfy(segment.header.receivers.contains)
        {
            return segment
        }
        seal()
        // The names of all attached receivers are added, so that later requests for them need no new segment.
        let others = spool.state.withLock { $0.clients.keys.sorted() }
        let names = receivers.sorted() + others.filter { !receivers.contains($0) }
        let header = SpoolHeader(
            segment: spool.nextNumber.wrappingAdd(1, ordering: .relaxed).oldValue, salt: .random(in: 1 ... .max),
            createdAt: spool.clock.now, receivers: Array(names.prefix(SpoolSegment.maximumReceivers)))
        let opened = try OpenSegment(header, spool.folder, syncsNames: config.sync == .always)
        segment = opened
        var known = SpoolSegment(header, indexStart: header.size)
        known.clockOffset = spool.clock.offset
        spool.state.withLock { state in
            state.segments[header.segment] = known
            state.order.append(header.segment)
            state.active = header.segment
        }
        return opened
    }

    /// Closes the open segment, to which nothing more is written; what is not synced yet is synced on another thread.
    ///
    /// - Parameter isElsewhere: true when its files are open in a folder that the data directory no longer refers to.
    func seal(isElsewhere: Bool = false) {
        guard let ended = segment.take() else { return }
        spool.state.withLock { $0.active = nil }
        let isUnsynced = nextSync != .never
        nextSync = .never
        let sync = ended.sync(records: isUnsynced, index: ended.isIndexWhole && !isElsewhere)
        if syncs.contains(where: \.isSealed) { waitForSyncs() }
        begin(sync, of: ended, isSealed: true)
        if isElsewhere { waitForSyncs() }
    }

    /// Cuts the open segment back to its published records and closes it.
    func abandon() {
        segment?.discardUnpublished()
        seal()
    }
}

extension SystemError {
    var isLackOfRoom: Bool { code == ENOSPC || code == EDQUOT }
}
