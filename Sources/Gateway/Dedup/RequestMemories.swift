import LinuxSystem
import Synchronization

/// The memories of all listeners that have a `dedup_window`, and their journal.
final class RequestMemories: Sendable {
    /// The remembered requests of each listener, and the names of the listeners whose requests are noted in the journal.
    fileprivate struct State {
        var known: [String: RequestMemory.Known] = [:]
        var noted: Set<String> = []
    }

    private let state = Mutex(State())
    private let journal: RequestJournal?

    /// Creates the memories, and restores the requests that earlier runs noted in the data directory.
    init(_ config: Config, _ directory: DataDirectory?) {
        // The journal is created even if no listener uses it yet, because a reload may enable one.
        journal = directory.map { RequestJournal(in: $0, config.spool) }
        let made = config.listeners.compactMap { memory(of: $0, config) }
        journal?.read { request in
            for memory in made { memory.restore(request, now: .now, unixNow: SteadyTime.unixNanoseconds) }
        }
    }

    /// The memory of a listener under one config; nil without a `dedup_window`. The remembered requests are shared by all configs.
    func memory(of entry: ListenerConfig, _ config: Config) -> RequestMemory? {
        guard let window = entry.dedupWindow else { return nil }
        let journal = config.outlivesProcess(entry) ? journal : nil
        let (known, noted) = state.withLock { $0.known(of: entry.name, isNoted: journal != nil) }
        journal?.widen(limit: AcceptedRequests.most * noted, window: window)
        return RequestMemory(listener: entry.name, window: window, journal: journal, known: known)
    }

    /// The number of a listener's requests that were answered with another request's outcome.
    func deduplicated(of listener: String) -> Int { state.withLock { $0.known[listener]?.deduplicated.value ?? 0 } }

    func start() throws(SystemError) { try journal?.start() }

    /// Writes the waiting requests to the journal and stops it; no receiver may settle anything after this call.
    func stop() { journal?.stop() }
}

extension RequestMemories.State {
    /// - Returns: the listener's remembered requests, and the number of listeners whose requests are noted.
    fileprivate mutating func known(of listener: String, isNoted: Bool) -> (RequestMemory.Known, noted: Int) {
        let found = known[listener] ?? RequestMemory.Known()
        known[listener] = found
        if isNoted { noted.insert(listener) }
        return (found, noted.count)
    }
}

extension Config {
    /// Whether the profiles that a listener accepts are still delivered after the process is killed.
    ///
    /// Otherwise its requests must not be noted either: a retry may be the only remaining copy of a profile.
    fileprivate func outlivesProcess(_ listener: ListenerConfig) -> Bool {
        guard listener.dedupWindow != nil, dataDirectory != nil else { return false }
        if listener.ack == .delivered { return true }
        return receivers.filter { listener.forwardTo.contains($0.name) }.allSatisfy { $0.queue.storage == .disk }
    }
}
