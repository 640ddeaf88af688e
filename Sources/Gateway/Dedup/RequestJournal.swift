import Glibc
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
        /// The files there are and that were read, oldest first.
        var generations: [UInt64] = []
        /// Files that could not be read yet; they are left as they are.
        var unread: [UInt64] = []
        /// Whether it is known what files there are.
        var isListed = false
        /// Greater than any file's there is, also of those that are left alone.
        var nextNumber: UInt64 = 1
        /// A generation has so many records at most.
        var limit: Int
        /// A generation is written to for so long at most; what is in the one before is over then.
        var window: Duration
        /// Takes what earlier runs have noted.
        var found: Found?
    }

    /// Takes a request that an earlier run has noted.
    typealias Found = @Sendable (AcceptedRequest) -> Void

    static let folder = "requests"

    let directory: DataDirectory
    let config: SpoolConfig
    let state: Monitor<State>
    private let thread = Mutex<Thread?>(nil)

    /// - Parameter directory: has them in a folder `requests`, which is made with the first request.
    init(in directory: DataDirectory, _ config: SpoolConfig, limit: Int = AcceptedRequests.most, window: Duration = .zero) {
        (self.directory, self.config, state) = (directory, config, Monitor(State(limit: limit, window: window)))
    }

    var limit: Int { state.withLock { $0.limit } }
    var window: Duration { state.withLock { $0.window } }

    /// Has room for more listeners or a longer window from here on; never for less, for what is noted is to be found.
    func widen(limit: Int, window: Duration) {
        state.withLock { ($0.limit, $0.window) = (max($0.limit, limit), max($0.window, window)) }
    }

    // MARK: Life

    /// Reads what earlier runs have noted, oldest first; before ``start()``.
    ///
    /// - Parameter body: is called later too, on the journal's thread, for what cannot be read now.
    func read(_ body: @escaping Found) {
        state.withLock { $0.found = body }
        readRest(isAgain: false)
    }

    /// Reads what could not be read yet.
    ///
    /// - Parameter isAgain: true when the log has said already what cannot be read.
    /// - Returns: whether nothing is left.
    @discardableResult
    func readRest(isAgain: Bool) -> Bool {
        let folder: OpenFolder
        do throws(SystemError) {
            try list()
            if forgetReader() { return true }
            folder = try OpenFolder(Self.folder, in: directory.root())
        } catch {
            if !isAgain { Log.warning("accepted requests cannot be read; it is tried again", ["error": "\(error)"]) }
            return false
        }
        let (unread, found) = state.withLock { ($0.unread, $0.found) }
        for number in unread { read(number, folder, isAgain: isAgain, found ?? { _ in }) }
        return forgetReader()
    }

    /// Lets go who takes what is found, once nothing is left to be found: it holds this journal.
    ///
    /// - Returns: whether nothing is left.
    private func forgetReader() -> Bool {
        state.withLock { state in
            guard state.unread.isEmpty else { return false }
            state.found = nil
            return true
        }
    }

    /// Sees what files there are, once; before that none is made.
    func list() throws(SystemError) {
        if state.withLock({ $0.isListed }) { return }
        var found: [UInt64] = []
        do throws(SystemError) {
            found = try OpenFolder(Self.folder, in: directory.root()).names().compactMap(RequestFile.number).sorted()
        } catch { if error.code != ENOENT { throw error } }
        let numbers = found.filter { $0 <= RequestFile.largestNumber }
        var next = (numbers.last ?? 0) + 1
        for number in found where number == next { next += 1 }
        state.withLock { ($0.isListed, $0.unread, $0.nextNumber) = (true, numbers, next) }
    }

    private func read(_ number: UInt64, _ folder: OpenFolder, isAgain: Bool, _ body: Found) {
        let name = folder.path(of: RequestFile.name(number))
        var isKnown = true
        do throws(RequestFile.Failure) {
            let file = try RequestFile.open(number, in: folder)
            let damaged: Int
            do throws(SystemError) { damaged = try file.read(body) } catch { throw .system(error) }
            if damaged > 0 { Log.warning("accepted requests are forgotten: damaged", ["file": name, "count": "\(damaged)"]) }
        } catch {
            switch error {
            case .damaged: Log.warning("accepted requests are forgotten: no such file", ["file": name])
            case .special:
                Log.warning("accepted requests are not read: it is no regular file, and is left alone", ["file": name])
                isKnown = false
            case .newer(let version):
                Log.warning("accepted requests of a later version are not read", ["file": name, "version": "\(version)"])
                isKnown = false
            case .system(let error):
                if isAgain { return }
                return Log.warning("accepted requests cannot be read; it is tried again", ["file": name, "error": "\(error)"])
            }
        }
        state.withLock { state in
            state.unread.removeAll { $0 == number }
            // This version's, be it whole or damaged, goes when its time is over.
            if isKnown { state.generations = (state.generations + [number]).sorted() }
        }
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
        state.withLock { $0.found = nil }
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
