import ConfigJSON
import Glibc
import LinuxSystem
public import PluginABI
import PluginKit
import ProfileArchive
import Synchronization

/// Archives every profile in a directory, byte for byte, with its metadata in a file beside it.
///
/// A profile is delivered when it is durable: its files and the folders that name them are synced. Waiting profiles are written and
/// synced in batches, which take from all tenants in turn.
final class FileSink: Receiver, Probing {
    static let name = "gateway.file"
    static let version = "0.2.0"

    private let host: GatewayHost
    private let config: FileSinkConfig
    private let archive: Archive
    private let worker: Worker<Job>
    private let isHealthy = Atomic<Bool>(true)
    private let aborting = Flag()
    private let state: Mutex<State>

    /// The state of the worker; on the worker's thread.
    private struct State {
        var turns = TenantTurns<Job>()
        /// Waiting flushes, each with the number of profiles that were added before it.
        var flushes: [(after: Int, job: Job)] = []
        /// Folders that are known to be synced, with all their parents.
        var durable: Set<String> = []
        var upkeep: Upkeep
    }

    /// One profile to write, or a flush when there is no profile; the delivery is finished once.
    private final class Job: Sendable {
        let profile: Profile?
        let byteCount: Int
        private let delivery: SharedDelivery

        init(_ profile: Profile?, _ delivery: consuming Delivery) {
            self.profile = profile
            byteCount = profile?.byteCount ?? 0
            self.delivery = SharedDelivery(delivery)
        }

        func finish(_ outcome: Outcome) { delivery.finish(outcome) }
    }

    /// How often an archive with bounds is checked when no profile arrives.
    private static let pause = Duration.seconds(1)
    /// The most profiles and bytes written and synced together. A tenant with few profiles waits for at most one such batch and one
    /// more profile.
    private static let largestBatch = (profiles: 64, bytes: 16 << 20)

    init(config object: ConfigObject, host: GatewayHost) throws {
        self.host = host
        config = FileSinkConfig(object)
        archive = Archive(config.directory.absolutePath, modes: config.modes)
        worker = Worker("file-sink", pause: config.isBounded ? Self.pause : nil)
        state = Mutex(State(upkeep: Upkeep(archive, config, host, aborting)))
        guard !config.directory.isEmpty else { return }
        do throws(SystemError) {
            let space = try archive.make().space()
            if let bytes = config.maxBytes, bytes > space.total - config.reserve(of: space.total) {
                object.warn("max_bytes", "is more than the file system holds beside min_free_bytes")
            }
            if let lack = config.lackOfRoom(for: 0, in: archive) { throw lack }
        } catch {
            // The config is not wrong, and each delivery tries again: the file system may be mounted later.
            isHealthy.store(false, ordering: .relaxed)
            host.setHealth(.failed, "\(error)")
        }
    }

    func deliver(_ profile: Profile, _ delivery: consuming Delivery) { submit(Job(profile, delivery)) }

    func flush(_ flush: consuming Delivery) { submit(Job(nil, flush)) }

    func probe(_ probe: consuming Delivery) {
        do throws(SystemError) {
            try archive.make().tryWriting()
            if let lack = config.lackOfRoom(for: 0, in: archive) { throw lack }
            probe.finish(.delivered)
        } catch { probe.finish(.retry("\(error)")) }
    }

    private func submit(_ job: Job) {
        do throws(SystemError) {
            try worker.submit(job) { [self] in work($0) }
        } catch { job.finish(.retry("\(error)")) }
    }

    func abort() {
        aborting.raise()
        for job in worker.takeBack() { job.finish(.aborted) }
    }

    func close() {
        worker.stop()
        state.withLock { $0.upkeep.end() }
    }

    // MARK: On the worker's thread

    /// Writes the jobs, and those that arrive meanwhile, a batch at a time.
    private func work(_ jobs: [Job]) {
        state.withLock { state in
            add(jobs, &state)
            repeat {
                let batch = state.turns.take(count: Self.largestBatch.profiles, weight: Self.largestBatch.bytes, weigh: \.byteCount)
                if !batch.isEmpty { store(batch, &state) }
                finishFlushes(&state)
                // At least one step with each batch, so that removal keeps up with new profiles.
                while state.upkeep.step(), state.turns.oldest == nil, !worker.isWanted, !aborting.isRaised {}
                add(worker.takeBack(), &state)
            } while state.turns.oldest != nil || !state.flushes.isEmpty
        }
    }

    private func add(_ jobs: [Job], _ state: inout State) {
        for job in jobs {
            if let profile = job.profile {
                state.turns.append(job, lane: profile.tenant)
            } else {
                state.flushes.append((state.turns.added, job))
            }
        }
    }

    /// Finishes the flushes whose earlier profiles are all done.
    private func finishFlushes(_ state: inout State) {
        let oldest = state.turns.oldest ?? .max
        for flush in state.flushes where flush.after <= oldest { flush.job.finish(.delivered) }
        state.flushes.removeAll { $0.after <= oldest }
    }

    /// Writes one batch: all files first, then the syncs, then the names, then the folders.
    private func store(_ jobs: [Job], _ state: inout State) {
        if let lack = config.lackOfRoom(for: jobs.reduce(0) { $0 + $1.byteCount }, in: archive) {
            for job in jobs { job.finish(aborting.isRaised ? .aborted : .retry("\(lack)")) }
            return stateHealth(lack)
        }
        let (fitting, tooMany) = jobs.partitioned { ($0.profile?.sampleCount ?? 0) < config.maxFiles ?? .max }
        for job in tooMany { job.finish(.rejected("has more files than max_files")) }
        let profiles = fitting.compactMap(\.profile)
        state.upkeep.willStore(profiles)
        let openFiles = max(0, (host.descriptorShare ?? .max) - ArchiveBatch.foldersOpen - Upkeep.descriptors)
        var batch = ArchiveBatch(archive, durable: state.durable, openFiles: openFiles, limit: config.maxBytes ?? .max) { [self] in
            aborting.isRaised
        }
        let results = batch.store(profiles.map { ArchiveEntry($0) })
        state.durable = batch.durable
        for (job, result) in zip(fitting, results) {
            if case .success(let stored) = result { state.upkeep.stored(stored) }
            job.finish(Self.outcome(result))
        }
        stateHealth(results)
    }

    private static func outcome(_ result: Result<ArchiveBatch.Stored, ArchiveError>) -> Outcome {
        switch result {
        case .success: .delivered
        case .failure(.conflict(let path)): .rejected("\(path) exists already with other content")
        case .failure(.aborted): .aborted
        case .failure(.tooLarge): .rejected("larger than max_bytes")
        // A retry would meet the same obstacle, and hold up the profiles of other tenants.
        case .failure(.link(let error)): .rejected("\(error)")
        case .failure(.system(let error)): .retry("\(error)")
        }
    }

    private func stateHealth(_ results: [Result<ArchiveBatch.Stored, ArchiveError>]) {
        for case .failure(.system(let error)) in results { return stateHealth(error) }
        if !isHealthy.exchange(true, ordering: .relaxed) { host.setHealth(.ok) }
    }

    private func stateHealth(_ error: SystemError) {
        isHealthy.store(false, ordering: .relaxed)
        // A lack of descriptors passes by itself; a full or broken disk needs a person.
        host.setHealth(error.isLackOfDescriptors ? .degraded : .failed, "\(error)")
    }
}

extension Array {
    /// The elements that satisfy a predicate, and the others, each in their order.
    fileprivate func partitioned(_ isTrue: (Element) -> Bool) -> ([Element], [Element]) { (filter(isTrue), filter { !isTrue($0) }) }
}

/// Returns the plugin's table of C functions; NULL when `hostSize`, the byte size of the gateway's `gw_host`, is that of a gateway
/// older than v1.0.
@c(gw_plugin_v1)
public func entry(hostSize: Int) -> UnsafePointer<gw_plugin>? { unsafe pluginTable(of: FileSink.self, hostSize) }
