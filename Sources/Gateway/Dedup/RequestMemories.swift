import LinuxSystem
import Synchronization

/// The memories of all listeners that have a `dedup_window`, and their journal.
final class RequestMemories: Sendable {
    /// What is known of each listener's requests, and whose are noted.
    fileprivate struct State {
        var known: [String: RequestMemory.Known] = [:]
        var noted: Set<String> = []
    }

    private let state = Mutex(State())
    private let journal: RequestJournal?

    /// Makes them, with what earlier runs have noted in the data directory.
    init(_ config: Config, _ directory: DataDirectory?) {
        // Also where nothing is noted yet, for a reload may want it.
        journal = directory.map { RequestJournal(in: $0, config.spool) }
        let made = config.listeners.compactMap { memory(of: $0, config) }
        journal?.read { request in
            for memory in made { memory.restore(request, now: .now, unixNow: SteadyTime.unixNanoseconds) }
        }
    }

    /// The memory of a listener, as one config has it; what is known is the same under all of them.
    func memory(of entry: ListenerConfig, _ config: Config) -> RequestMemory? {
        guard let window = entry.dedupWindow else { return nil }
        let journal = config.outlivesProcess(entry) ? journal : nil
        let (known, noted) = state.withLock { $0.known(of: entry.name, isNoted: journal != nil) }
        journal?.widen(limit: AcceptedRequests.most * noted, window: window)
        return RequestMemory(listener: entry.name, window: window, journal: journal, known: known)
    }

    /// How many requests of a listener got the answer of another one.
    func deduplicated(of listener: String) -> Int { state.withLock { $0.known[listener]?.deduplicated.value ?? 0 } }

    func start() throws(SystemError) { try journal?.start() }

    /// Notes what was accepted until now; no receiver settles anything after this.
    func stop() { journal?.stop() }
}

extension RequestMemories.State {
    /// - Returns: also how many listeners' requests are noted.
    fileprivate mutating func known(of listener: String, isNoted: Bool) -> (RequestMemory.Known, noted: Int) {
        let found = known[listener] ?? RequestMemory.Known()
        known[listener] = found
        if isNoted { noted.insert(listener) }
        return (found, noted.count)
    }
}

extension Config {
    /// Whether what a listener accepts is still delivered after a kill.
    ///
    /// Else its requests must not be noted either: a retry could be all that is left of a profile.
    fileprivate func outlivesProcess(_ listener: ListenerConfig) -> Bool {
        guard listener.dedupWindow != nil, dataDirectory != nil else { return false }
        if listener.ack == .delivered { return true }
        return receivers.filter { listener.forwardTo.contains($0.name) }.allSatisfy { $0.queue.storage == .disk }
    }
}
