package import LinuxSystem
package import SpoolStore
import Synchronization
import Telemetry

/// The memories of all listeners that have a `dedup_window`, and their journal.
package final class RequestMemories: Sendable {
    /// The remembered requests of each listener, and the names of the listeners whose requests are noted in the journal.
    fileprivate struct State {
        var known: [String: RequestMemory.Remembered] = [:]
        var noted: Set<String> = []
    }

    private let state = Mutex(State())
    private let journal: RequestJournal?

    /// A listener that recognizes repeated requests.
    package struct Window {
        let listener: String
        /// How long accepted requests are remembered.
        let length: Duration
        /// Whether the profiles that the listener accepts are still delivered after the process is killed.
        ///
        /// Otherwise its requests are not noted on disk: a retry may be the only remaining copy of a profile.
        let outlivesProcess: Bool

        package init(listener: String, length: Duration, outlivesProcess: Bool) {
            (self.listener, self.length, self.outlivesProcess) = (listener, length, outlivesProcess)
        }
    }

    /// Creates the memories, and restores the requests that earlier runs noted in the data directory.
    ///
    /// - Parameters:
    ///   - directory: the data directory; nil keeps all in memory.
    ///   - spool: its `sync` decides when an accepted request counts as noted.
    package init(_ windows: [Window], in directory: DataDirectory?, _ spool: SpoolConfig) {
        // The journal is created even if no listener uses it yet, because a reload may enable one.
        journal = directory.map { RequestJournal(in: $0, spool) }
        let made = windows.map(memory)
        journal?.read { request in
            for memory in made { memory.restore(request, now: .now, unixNow: SteadyTime.unixNanoseconds) }
        }
    }

    /// The memory of a listener. The remembered requests are shared by all configs, so that a reload keeps them.
    package func memory(of window: Window) -> RequestMemory {
        let journal = window.outlivesProcess ? journal : nil
        let (known, noted) = state.withLock { $0.known(of: window.listener, isNoted: journal != nil) }
        journal?.widen(limit: AcceptedRequests.most * noted, window: window.length)
        return RequestMemory(listener: window.listener, window: window.length, journal: journal, known: known)
    }

    /// The number of a listener's requests that were answered with another request's outcome.
    package func deduplicated(of listener: String) -> Int { state.withLock { $0.known[listener]?.deduplicated.value ?? 0 } }

    package func start() throws(SystemError) { try journal?.start() }

    /// Writes the waiting requests to the journal and stops it; no receiver may settle anything after this call.
    package func stop() { journal?.stop() }
}

extension RequestMemories.State {
    /// - Returns: the listener's remembered requests, and the number of listeners whose requests are noted.
    fileprivate mutating func known(of listener: String, isNoted: Bool) -> (RequestMemory.Remembered, noted: Int) {
        let found = known[listener] ?? RequestMemory.Remembered()
        known[listener] = found
        if isNoted { noted.insert(listener) }
        return (found, noted.count)
    }
}
