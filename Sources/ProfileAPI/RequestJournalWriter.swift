import LinuxSystem
import SpoolStore
import Telemetry

/// The writing half of the journal; everything here runs on the journal's thread.
final class RequestJournalWriter {
    private let journal: RequestJournal
    private var folder: OpenFolder?
    private var file: RequestFile?
    /// The data directory's generation in which the file was opened.
    private var generation = 0
    /// The number of a new file until its first record is published; then nil.
    private var unpublished: UInt64?
    private var rotatesAt = MonotonicTime.never
    private var nextSync = MonotonicTime.never
    /// The time of the next attempt to read files of earlier runs that could not be read.
    private var nextRead = MonotonicTime.never
    private var readDelay = Duration.seconds(1)
    private var isFailing = false

    /// The shortest time for which a file is written to, however short the windows are.
    private static let shortestAge = Duration.seconds(60)
    private static let longestReadDelay = Duration.seconds(30)

    init(_ journal: RequestJournal) { self.journal = journal }

    func run() {
        if journal.state.withLock({ !$0.isListed || !$0.unread.isEmpty }) { nextRead = .now + readDelay }
        reopen()
        while true {
            let (waiting, isStopping) = journal.state.wait { state in
                let next = min(self.nextSync, self.nextRead)
                return state.waiting.isEmpty && !state.isStopping && next > .now
                    ? .again(next) : .done((state.takeWaiting(), state.isStopping))
            }
            if !waiting.isEmpty { attempt { () throws(SystemError) in try self.write(waiting.map(\.request)) } }
            for item in waiting { item.done() }
            if nextSync <= .now || isStopping { attempt { () throws(SystemError) in try self.synchronizeLate() } }
            if isStopping { return }
            readRest()
        }
    }

    private func readRest() {
        guard nextRead <= .now else { return }
        readDelay = min(readDelay + readDelay, Self.longestReadDelay)
        nextRead = journal.readRest(isAgain: true) ? .never : .now + readDelay
    }

    /// Continues the last file of an earlier run.
    private func reopen() {
        generation = journal.directory.generation
        guard let last = journal.state.withLock({ $0.generations.last }) else { return }
        do {
            let found = try OpenFolder(RequestJournal.folder, in: journal.directory.root())
            let opened = try RequestFile.open(last, in: found)
            let age = SteadyTime.unixNanoseconds.subtractingSaturated(opened.createdAt)
            rotatesAt = .now + .nanoseconds(max(0, longestAge.inNanoseconds - max(0, age)))
            folder = found
            file = consume opened
        } catch { forgetFile() }
    }

    private var longestAge: Duration { max(journal.window, Self.shortestAge) }

    private func attempt(_ body: () throws(SystemError) -> Void) {
        do throws(SystemError) {
            try body()
            isFailing = false
        } catch {
            if !isFailing {
                Log.warning("accepted requests cannot be written; after a restart their repeats are delivered again", ["error": "\(error)"])
            }
            isFailing = true
        }
    }

    private func write(_ requests: [AcceptedRequest]) throws(SystemError) {
        let now = journal.directory.generation
        if now != generation { forgetFile() }
        generation = now
        do throws(SystemError) { try add(requests) } catch {
            // The open file may be unreachable for good even when its folder has come back.
            if error.isPassing { forgetFile() }
            throw error
        }
    }

    private func forgetFile() {
        file = nil
        unpublished = nil
    }

    private func add(_ requests: [AcceptedRequest]) throws(SystemError) {
        var rest = requests[...]
        while !rest.isEmpty {
            if file == nil || file?.count ?? 0 >= journal.limit || rotatesAt <= .now { try begin() }
            let next = rest.prefix(journal.limit - (file?.count ?? 0))
            try file?.append(Array(next))
            if journal.config.sync == .always { try synchronize() }
            try publish()
            rest = rest.dropFirst(next.count)
        }
        if journal.config.sync == .interval, !requests.isEmpty { nextSync = min(nextSync, .now + journal.config.syncInterval) }
    }

    private func synchronizeLate() throws(SystemError) {
        nextSync = .never
        if journal.config.sync != .never { try synchronize() }
    }

    /// Syncs the file; after a failure the file is not used again.
    private func synchronize() throws(SystemError) {
        do throws(SystemError) { try file?.synchronize() } catch {
            // No request in a new file has been answered yet, so it can be removed; if that fails, a later start removes it when
            // its time is over.
            if let number = unpublished.take() { try? folder?.remove(RequestFile.name(number)) }
            file = nil
            throw error
        }
    }

    // MARK: Files

    /// Creates the next file.
    private func begin() throws(SystemError) {
        // A failure here costs no more than a power cut would.
        if journal.config.sync == .interval { try? synchronize() }
        try journal.list()
        let made = try journal.directory.made(RequestJournal.folder)
        let number = journal.state.withLock { state in
            defer { state.nextNumber += 1 }
            return state.nextNumber
        }
        file = try RequestFile.create(number, in: made)
        (folder, unpublished, rotatesAt) = (made, number, .now + longestAge)
    }

    /// Publishes a new file after its first records are written; of the older files, only the newest is kept.
    private func publish() throws(SystemError) {
        guard let number = unpublished, let folder else { return }
        if journal.config.sync != .never {
            try folder.synchronize()
            // The folder's own entry is synced too, because the folder may be new.
            try journal.directory.root().synchronize()
        }
        unpublished = nil
        let old = journal.state.withLock { state in
            defer { state.generations = state.generations.suffix(1) + [number] }
            return state.generations.dropLast()
        }
        for number in old {
            do throws(SystemError) { try folder.remove(RequestFile.name(number)) } catch {
                // The requests are noted all the same; the next start removes the file when its time is over.
                Log.warning("cannot remove an old file of accepted requests", ["file": RequestFile.name(number), "error": "\(error)"])
            }
        }
    }
}

extension RequestJournal.State {
    fileprivate mutating func takeWaiting() -> [(request: AcceptedRequest, done: RequestJournal.Done)] {
        defer { waiting = [] }
        return waiting
    }
}
