import LinuxSystem
import Synchronization

/// The memories of all listeners that have a `dedup_window`, and their journal.
final class RequestMemories: Sendable {
    private struct Kind: Hashable {
        let listener: String
        let window: Duration
        let isNoted: Bool
    }

    private let memories = Mutex<[Kind: RequestMemory]>([:])
    private let journal: RequestJournal?

    /// Makes them, with what earlier runs have noted under `data_dir`.
    init(_ config: Config) {
        journal = RequestJournal(config)
        let made = config.listeners.compactMap { memory(of: $0, config) }
        let (now, unixNow) = (MonotonicTime.now, MonotonicTime.unixNanoseconds)
        journal?.read { request in for memory in made { memory.restore(request, now: now, unixNow: unixNow) } }
    }

    /// The memory of a listener; a reload that does not change its window keeps it.
    func memory(of entry: ListenerConfig, _ config: Config) -> RequestMemory? {
        guard let window = entry.dedupWindow else { return nil }
        let kind = Kind(listener: entry.name, window: window, isNoted: config.outlivesProcess(entry))
        return memories.withLock { memories in
            let memory = memories[kind] ?? RequestMemory(listener: entry.name, window: window, journal: kind.isNoted ? journal : nil)
            memories[kind] = memory
            return memory
        }
    }

    /// How many requests of a listener got the answer of another one.
    func deduplicated(of listener: String) -> Int {
        memories.withLock { $0.filter { $0.key.listener == listener }.reduce(0) { $0 + $1.value.deduplicated.value } }
    }

    func start() throws(SystemError) { try journal?.start() }

    /// Notes what was accepted until now; no receiver settles anything after this.
    func stop() { journal?.stop() }
}

extension RequestJournal {
    /// nil where no listener's requests are noted.
    fileprivate convenience init?(_ config: Config) {
        let windows = config.listeners.filter(config.outlivesProcess).compactMap(\.dedupWindow)
        guard let directory = config.dataDirectory, let longest = windows.max() else { return nil }
        self.init(folder: "\(directory)/requests", config.spool, limit: AcceptedRequests.most * windows.count, window: longest)
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
