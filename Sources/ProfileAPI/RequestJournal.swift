import Glibc
import LinuxSystem
import SpoolStore
import Synchronization
import Telemetry

/// The journal of accepted requests under `data_dir/requests`, by which repeated requests are recognized after a restart too.
///
/// A separate thread writes and syncs all waiting requests together. A failure to write or read only means that a sender's retry
/// may be delivered again.
final class RequestJournal: Sendable {
    /// Called once, when the request is as durable as `spool.sync` requires, or cannot be made so.
    typealias Done = @Sendable () -> Void

    struct State {
        var waiting: [(request: AcceptedRequest, done: Done)] = []
        var isStopping = false
        /// The numbers of the existing files that were read, oldest first.
        var generations: [UInt64] = []
        /// The numbers of files that could not be read yet; they are left untouched.
        var unread: [UInt64] = []
        /// Whether the folder has been listed.
        var isListed = false
        /// The number of the next file; greater than those of all existing files, including ignored ones, up to
        /// ``RequestFile/largestNumber``.
        var nextNumber: UInt64 = 1
        /// The most records of a generation.
        var limit: Int
        /// The time for which a generation is written to, but never less than 60 s; afterwards all windows in the generation before
        /// it have ended.
        var window: Duration
        /// Receives the requests that earlier runs noted; nil when all have been read.
        var found: Found?
    }

    /// Receives a request that an earlier run noted.
    typealias Found = @Sendable (AcceptedRequest) -> Void

    static let folder = "requests"

    let directory: DataDirectory
    let config: SpoolConfig
    let state: Monitor<State>
    private let thread = Mutex<Thread?>(nil)

    /// - Parameter directory: the data directory; its folder `requests` is created with the first request.
    init(in directory: DataDirectory, _ config: SpoolConfig, limit: Int = AcceptedRequests.most, window: Duration = .zero) {
        (self.directory, self.config, state) = (directory, config, Monitor(State(limit: limit, window: window)))
    }

    var limit: Int { state.withLock { $0.limit } }
    var window: Duration { state.withLock { $0.window } }

    /// Raises the limit and the window of generations; they never shrink, so that noted requests are still found.
    func widen(limit: Int, window: Duration) {
        state.withLock { ($0.limit, $0.window) = (max($0.limit, limit), max($0.window, window)) }
    }

    // MARK: Starting and stopping

    /// Reads the requests that earlier runs noted, oldest first; must be called before ``start()``.
    ///
    /// - Parameter body: called with each request; also later, on the journal's thread, for files that cannot be read now.
    func read(_ body: @escaping Found) {
        state.withLock { $0.found = body }
        readRest(isAgain: false)
    }

    /// Reads the files that could not be read before.
    ///
    /// - Parameter isAgain: true when failures have been logged already.
    /// - Returns: whether nothing is left to read.
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

    /// Releases the closure that receives requests once nothing is left to read, because it holds a reference to this journal.
    ///
    /// - Returns: whether nothing is left to read.
    private func forgetReader() -> Bool {
        state.withLock { state in
            guard state.unread.isEmpty else { return false }
            state.found = nil
            return true
        }
    }

    /// Lists the folder if that has not been done; no file is created before.
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
            if damaged > 0 { Log.warning("accepted requests lost: the file is damaged", ["file": name, "count": "\(damaged)"]) }
        } catch {
            switch error {
            case .damaged: Log.warning("accepted requests lost: there is no such file", ["file": name])
            case .special:
                Log.warning("accepted requests are not read: it is no regular file, and it is left as it is", ["file": name])
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
            // Files of this version, damaged or not, are removed when their time is over.
            if isKnown { state.generations = (state.generations + [number]).sorted() }
        }
    }

    /// Starts the thread that writes.
    func start() throws(SystemError) {
        try thread.withLock { (thread) throws(SystemError) in
            thread = try Thread("requests") { [self] in RequestJournalWriter(self).run() }
        }
    }

    /// Writes the waiting requests and ends the thread; requests that come later are not noted.
    func stop() {
        state.withLock { $0.isStopping = true }
        state.signal()
        thread.withLock { $0.take()?.join() }
        state.withLock { $0.found = nil }
    }

    // MARK: Appending

    /// Queues a request to be noted; callable from any thread.
    func append(_ request: AcceptedRequest, done: @escaping Done) {
        let isTaken = state.withLock { state in
            guard !state.isStopping else { return false }
            state.waiting.append((request, done))
            return true
        }
        if isTaken { state.signal() } else { done() }
    }
}
