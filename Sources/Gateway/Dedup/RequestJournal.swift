import LinuxSystem
import Synchronization

/// Notes accepted requests under `data_dir/requests`, so that their repeats are known after a restart too.
///
/// All that waits is written and synced together, by a thread of its own. It is only a memory: whatever cannot be written or
/// read costs a sender's retry that is delivered again, and nothing else.
final class RequestJournal: Sendable {
    /// Called once, when the request is as durable as `spool.sync` asks, or cannot be made so.
    typealias Done = @Sendable () -> Void

    struct State {
        var waiting: [(request: AcceptedRequest, done: Done)] = []
        var isStopping = false
        /// The files there are, oldest first.
        var generations: [UInt64] = []
        /// Greater than any file's there is, also of those that are left alone.
        var nextNumber: UInt64 = 1
    }

    let folder: Folder
    let config: SpoolConfig
    /// A generation has so many records at most.
    let limit: Int
    /// A generation is written to for so long at most; what is in the one before is over then.
    let window: Duration
    let state = Monitor(State())
    private let thread = Mutex<Thread?>(nil)

    init(folder: String, _ config: SpoolConfig, limit: Int, window: Duration) {
        (self.folder, self.config, self.limit, self.window) = (Folder(folder), config, limit, window)
    }

    // MARK: Life

    /// Reads what earlier runs have noted, oldest first; before ``start()``.
    func read(_ body: (AcceptedRequest) -> Void) {
        let numbers = ((try? folder.names()) ?? []).compactMap(RequestFile.number).sorted()
        let known = numbers.filter { read($0, body) }
        state.withLock { ($0.generations, $0.nextNumber) = (known, (numbers.last ?? 0) + 1) }
    }

    /// - Returns: whether the file is this version's, be it whole or damaged.
    private func read(_ number: UInt64, _ body: (AcceptedRequest) -> Void) -> Bool {
        let name = folder.path(of: RequestFile.name(number))
        do throws(RequestFile.Failure) {
            let file = try RequestFile.open(number, in: folder)
            let damaged: Int
            do throws(SystemError) { damaged = try file.read(body) } catch { throw .system(error) }
            if damaged > 0 { Log.warning("accepted requests are forgotten: damaged", ["file": name, "count": "\(damaged)"]) }
        } catch {
            switch error {
            case .damaged: Log.warning("accepted requests are forgotten: no such file", ["file": name])
            case .system(let error): Log.warning("accepted requests cannot be read", ["file": name, "error": "\(error)"])
            case .newer(let version):
                Log.warning("accepted requests of a later version are not read", ["file": name, "version": "\(version)"])
                return false
            }
        }
        return true
    }

    /// Starts the thread that writes.
    func start() throws(SystemError) {
        try thread.withLock { (thread) throws(SystemError) in
            thread = try Thread("requests") { [self] in RequestJournalWriter(self).run() }
        }
    }

    /// Writes what waits and ends the thread; what comes later is not noted.
    func stop() {
        state.withLock { $0.isStopping = true }
        state.signal()
        thread.withLock { $0.take()?.join() }
    }

    // MARK: In

    /// Notes a request, from any thread.
    func append(_ request: AcceptedRequest, done: @escaping Done) {
        let isTaken = state.withLock { state in
            guard !state.isStopping else { return false }
            state.waiting.append((request, done))
            return true
        }
        if isTaken { state.signal() } else { done() }
    }
}

/// The writing half of the journal; everything here happens on its thread.
final class RequestJournalWriter {
    private let journal: RequestJournal
    private var file: RequestFile?
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
            if file == nil || file?.count ?? 0 >= journal.limit || rotatesAt <= .now { try rotate() }
            let next = rest.prefix(journal.limit - (file?.count ?? 0))
            try file?.append(Array(next))
            if journal.config.sync == .always { try file?.synchronize() }
            rest = rest.dropFirst(next.count)
        }
        if journal.config.sync == .interval, !requests.isEmpty { nextSync = min(nextSync, .now + journal.config.syncInterval) }
    }

    private func synchronizeLate() throws(SystemError) {
        nextSync = .never
        if journal.config.sync != .never { try file?.synchronize() }
    }

    /// Begins another file; of the older ones only the last is kept.
    private func rotate() throws(SystemError) {
        if journal.config.sync == .interval { try file?.synchronize() }
        try journal.folder.make(mode: 0o700)
        let number = journal.state.withLock { state in
            defer { state.nextNumber += 1 }
            return state.nextNumber
        }
        file = try create(number)
        rotatesAt = .now + longestAge
        let old = journal.state.withLock { state in
            defer { state.generations = state.generations.suffix(1) + [number] }
            return state.generations.dropLast()
        }
        if journal.config.sync != .never { try journal.folder.synchronize() }
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
