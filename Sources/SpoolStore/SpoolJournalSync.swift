import Glibc
import LinuxSystem
import Synchronization
import Telemetry

/// Whether a sync of a segment's records has failed: the kernel may then consider the dirty pages written, so that a later sync that
/// succeeds proves nothing.
final class SyncTrust: Sendable {
    private let isLost = Atomic(false)

    /// Syncs an open file after the folder with its name, unless such a sync has failed before.
    func synchronize(_ folder: OpenFolder?, _ file: Int32) throws(SystemError) {
        guard !isLost.load(ordering: .relaxed) else { throw SystemError("fdatasync", code: EIO) }
        do throws(SystemError) {
            try folder?.synchronize()
            try FileDescriptor.synchronize(file)
        } catch {
            isLost.store(true, ordering: .relaxed)
            throw error
        }
    }
}

/// A sync of a segment's files on another thread than the spool's, so that senders need not wait for it.
///
/// Its descriptors stay open until the spool's thread has the result, because it keeps the ``OpenSegment`` so long.
struct SegmentSync: Sendable {
    /// The folder with the names of the files, if these are to be synced too.
    let folder: OpenFolder?
    let records: Int32?
    let index: Int32?
    let trust: SyncTrust

    struct Result: Sendable {
        /// Why records may not be durable; nil when they are, or were not to be synced.
        var failure: SystemError?
        var isIndexSynced = false
    }

    fileprivate func run(_ time: Histogram) -> Result {
        var result = Result()
        do throws(SystemError) {
            if let records {
                let start = MonotonicTime.now
                try trust.synchronize(folder, records)
                time.observe(nanoseconds: MonotonicTime.now.nanoseconds - start.nanoseconds)
            }
        } catch { result.failure = error }
        if let index { result.isIndexSynced = (try? FileDescriptor.synchronize(index)) != nil }
        return result
    }
}

/// How the journal syncs: on the spool's thread what a sender waits for, everything else on another thread.
extension SpoolJournal {
    /// Syncs records on this thread.
    func synchronize(_ target: OpenSegment) throws(SystemError) {
        let start = MonotonicTime.now
        try target.synchronize()
        spool.syncTime.observe(nanoseconds: MonotonicTime.now.nanoseconds - start.nanoseconds)
        nextSync = .never
    }

    func noteUnsynced() {
        if config.sync == .interval, nextSync == .never { nextSync = .now + config.syncInterval }
    }

    /// Begins a sync of records whose senders were answered before, when it is due and no other one runs.
    func syncIfDue() {
        guard nextSync <= .now, syncs.isEmpty, let segment else { return }
        nextSync = .never
        begin(segment.sync(records: true, index: false), of: segment, isSealed: false)
    }

    /// Begins a sync on the other thread; it ends in ``takeSyncs()`` or ``waitForSyncs()``.
    func begin(_ sync: SegmentSync, of target: OpenSegment, isSealed: Bool) {
        syncs.append((target, isSealed))
        do throws(SystemError) {
            try syncThread.submit(sync) { [spool] syncs in
                for sync in syncs { spool.run(sync) }
            }
        } catch { spool.run(sync) }
    }

    /// Takes the results of the syncs that have ended.
    func takeSyncs() {
        while !syncs.isEmpty, let result = spool.state.withLock({ $0.takeSyncResult() }) { take(result) }
    }

    /// Waits until no sync runs on the other thread.
    func waitForSyncs() {
        while !syncs.isEmpty { take(spool.state.wait { state in state.takeSyncResult().map { .done($0) } ?? .again(.never) }) }
    }

    private func take(_ result: SegmentSync.Result) {
        let (target, isSealed) = syncs.removeFirst()
        syncsEnded += 1
        if let failure = result.failure {
            tellLost(failure)
        } else {
            target.wasSynced()
        }
        if isSealed { close(target, hasIndex: result.isIndexSynced) }
        guard result.failure != nil, segment === target else { return }
        nextSync = .never
        abandon()
    }

    /// Releases the index entries in memory of a segment to which nothing more is written, when they are on disk.
    private func close(_ ended: OpenSegment, hasIndex: Bool) {
        guard let entries = spool.state.withLock({ $0.segments[ended.number]?.entries }) else { return }
        guard hasIndex || spool.folder.rewriteIndex(ended.header, entries) else { return }
        spool.state.withLock { $0.segments[ended.number]?.entries = nil }
    }

    /// Logs that profiles which were answered before their sync may be lost in a power cut, as `spool.sync` allows.
    func tellLost(_ error: SystemError) {
        spool.writeErrors.add()
        tell(.system(error))
        Log.error("a sync failed; profiles that were answered may be lost in a power cut", ["error": "\(error)"])
    }
}

extension Spool {
    fileprivate func run(_ sync: SegmentSync) {
        let result = sync.run(syncTime)
        state.withLock { $0.syncResults.append(result) }
        state.signal()
    }
}

extension Spool.State {
    fileprivate mutating func takeSyncResult() -> SegmentSync.Result? { syncResults.isEmpty ? nil : syncResults.removeFirst() }
}
