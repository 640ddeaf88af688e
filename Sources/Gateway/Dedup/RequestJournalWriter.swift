import LinuxSystem

/// The writing half of the journal; everything here happens on its thread.
final class RequestJournalWriter {
    private let journal: RequestJournal
    private var file: RequestFile?
    /// The number of the file while nothing in it is known to be on disk.
    private var unpublished: UInt64?
    private var rotatesAt = MonotonicTime.never
    private var nextSync = MonotonicTime.never
    private var isFailing = false

    /// However short windows are, a file is written to for so long.
    private static let shortestAge = Duration.seconds(60)

    init(_ journal: RequestJournal) { self.journal = journal }

    func run() {
        reopen()
        while true {
            let (waiting, isStopping) = journal.state.wait { state in
                state.waiting.isEmpty && !state.isStopping && self.nextSync > .now
                    ? .again(self.nextSync) : .done((state.takeWaiting(), state.isStopping))
            }
            attempt { () throws(SystemError) in try self.write(waiting.map(\.request)) }
            for item in waiting { item.done() }
            if nextSync <= .now || isStopping { attempt { () throws(SystemError) in try self.synchronizeLate() } }
            if isStopping { return }
        }
    }

    /// Goes on with the last file of an earlier run.
    private func reopen() {
        guard let last = journal.state.withLock({ $0.generations.last }) else { return }
        do throws(RequestFile.Failure) {
            let opened = try RequestFile.open(last, in: journal.folder)
            let age = MonotonicTime.unixNanoseconds - opened.createdAt
            rotatesAt = .now + .nanoseconds(max(0, longestAge.inNanoseconds - max(0, age)))
            file = consume opened
        } catch { file = nil }
    }

    private var longestAge: Duration { max(journal.window, Self.shortestAge) }

    private func attempt(_ body: () throws(SystemError) -> Void) {
        do throws(SystemError) {
            try body()
            isFailing = false
        } catch {
            if !isFailing {
                Log.warning("cannot note accepted requests; their repeats are known until the next start only", ["error": "\(error)"])
            }
            isFailing = true
        }
    }

    private func write(_ requests: [AcceptedRequest]) throws(SystemError) {
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

    /// Makes what was written durable; after a failure the same file is not trusted again.
    private func synchronize() throws(SystemError) {
        do throws(SystemError) { try file?.synchronize() } catch {
            if let number = unpublished.take() { try? journal.folder.remove(RequestFile.name(number)) }
            file = nil
            throw error
        }
    }

    // MARK: Files

    /// Begins another file.
    private func begin() throws(SystemError) {
        if journal.config.sync == .interval { try? synchronize() }
        try journal.folder.make(mode: 0o700)
        let number = journal.state.withLock { state in
            defer { state.nextNumber += 1 }
            return state.nextNumber
        }
        file = try create(number)
        (unpublished, rotatesAt) = (number, .now + longestAge)
    }

    /// Once a new file has something in it, only the last of the older ones is kept.
    private func publish() throws(SystemError) {
        guard let number = unpublished else { return }
        if journal.config.sync != .never {
            try journal.folder.synchronize()
            // Its own name too, where it is new.
            try Folder(journal.folder.path(of: "..")).synchronize()
        }
        unpublished = nil
        let old = journal.state.withLock { state in
            defer { state.generations = state.generations.suffix(1) + [number] }
            return state.generations.dropLast()
        }
        for number in old { try journal.folder.remove(RequestFile.name(number)) }
    }

    private func create(_ number: UInt64) throws(SystemError) -> RequestFile {
        do throws(SystemError) { return try RequestFile.create(number, in: journal.folder) } catch {
            // A full disk lets empty files be made, and each try would leave one.
            try? journal.folder.remove(RequestFile.name(number))
            throw error
        }
    }
}

extension RequestJournal.State {
    fileprivate mutating func takeWaiting() -> [(request: AcceptedRequest, done: RequestJournal.Done)] {
        defer { waiting = [] }
        return waiting
    }
}
