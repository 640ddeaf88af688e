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
        /// A generation has so many records at most.
        var limit: Int
        /// A generation is written to for so long at most; what is in the one before is over then.
        var window: Duration
    }

    let folder: Folder
    let config: SpoolConfig
    let state: Monitor<State>
    private let thread = Mutex<Thread?>(nil)

    init(folder: String, _ config: SpoolConfig, limit: Int = AcceptedRequests.most, window: Duration = .zero) {
        (self.folder, self.config, state) = (Folder(folder), config, Monitor(State(limit: limit, window: window)))
    }

    var limit: Int { state.withLock { $0.limit } }
    var window: Duration { state.withLock { $0.window } }

    /// Has room for more listeners or a longer window from here on; never for less, for what is noted is to be found.
    func widen(limit: Int, window: Duration) {
        state.withLock { ($0.limit, $0.window) = (max($0.limit, limit), max($0.window, window)) }
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
