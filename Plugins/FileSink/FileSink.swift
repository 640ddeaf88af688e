import ConfigJSON
import Glibc
import LinuxSystem
public import PluginABI
import PluginKit
import ProfileArchive
import Synchronization

/// Archives every profile under a directory, byte for byte, with its metadata beside it.
///
/// Delivered means durable: files and the folders that name them are synced. Everything that waits is synced together.
final class FileSink: Receiver {
    static let name = "gateway.file"
    static let version = "0.1.0"

    private let host: Host
    private let archive: Archive
    private let worker: Worker<Job>
    private let isHealthy = Atomic<Bool>(true)
    private let isAborting = Atomic<Bool>(false)
    /// Folders that are known to be on disk with all their parents; on the worker's thread.
    private let durable = Mutex<Set<String>>([])
    private let isSwept = Atomic<Bool>(false)

    /// One profile to write, or without one a flush; the delivery is finished once.
    private final class Job: Sendable {
        let profile: Profile?
        private let delivery: Mutex<Delivery?>

        init(_ profile: Profile?, _ delivery: consuming Delivery) {
            self.profile = profile
            self.delivery = Mutex(delivery)
        }

        func finish(_ outcome: Outcome) {
            if let delivery = delivery.withLock({ $0.take() }) { delivery.finish(outcome) }
        }
    }

    init(config: ConfigObject, host: Host) throws {
        self.host = host
        let directory = config.string("directory") ?? ""
        if directory.isEmpty { config.refuse("directory", "is required: the folder of the archive") }
        let archive = Archive(directory)
        self.archive = archive
        worker = Worker("file-sink")
        if !directory.isEmpty {
            do throws(SystemError) {
                try archive.makeFolder("")
            } catch {
                // Nothing is wrong with the config, and each delivery tries again: a mount may come later.
                isHealthy.store(false, ordering: .relaxed)
                host.setHealth(.failed, "\(error)")
            }
        }
    }

    func deliver(_ profile: Profile, _ delivery: consuming Delivery) { submit(Job(profile, delivery)) }

    /// The worker takes jobs in order, so a flush is done when whatever came before it is.
    func flush(_ flush: consuming Delivery) { submit(Job(nil, flush)) }

    private func submit(_ job: Job) {
        do throws(SystemError) {
            try worker.submit(job) { [self] in store($0) }
        } catch { job.finish(.retry("\(error)")) }
    }

    func abort() {
        isAborting.store(true, ordering: .relaxed)
        for job in worker.takeBack() { job.finish(.aborted) }
    }

    func close() { worker.stop() }

    /// Writes a batch: all files first, then the syncs, then the names, then the folders.
    private func store(_ jobs: [Job]) {
        // Beside the files: the one that is written, or a folder that is synced or listed.
        let openFiles = max(0, (host.descriptorShare ?? .max) - 2)
        var batch = ArchiveBatch(archive, durable: durable.withLock { $0 }, openFiles: openFiles) { [self] in
            isAborting.load(ordering: .relaxed)
        }
        let results = batch.store(jobs.compactMap(\.profile).map { ArchiveEntry($0) })
        durable.withLock { $0 = batch.durable }
        for (job, result) in zip(jobs.filter { $0.profile != nil }, results) {
            switch result {
            case .success: job.finish(.delivered)
            case .failure(.conflict(let path)):
                job.finish(.rejected("\(path) exists already with other content"))
            case .failure(.aborted): job.finish(.aborted)
            case .failure(.tooLarge): job.finish(.rejected("larger than the archive"))
            case .failure(.system(let error)): job.finish(.retry("\(error)"))
            }
        }
        for job in jobs where job.profile == nil { job.finish(.delivered) }
        stateHealth(results)
        sweep()
    }

    /// Once, and behind the first deliveries, for a large archive takes its time.
    private func sweep() {
        guard !isSwept.exchange(true, ordering: .relaxed) else { return }
        archive.removeLeftovers { [self] in !isAborting.load(ordering: .relaxed) }
    }

    private func stateHealth(_ results: [Result<ArchiveBatch.Stored, ArchiveError>]) {
        for case .failure(.system(let error)) in results {
            isHealthy.store(false, ordering: .relaxed)
            // A descriptor that is missing comes back; a disk needs a person.
            return host.setHealth(error.isLackOfDescriptors ? .degraded : .failed, "\(error)")
        }
        if !isHealthy.exchange(true, ordering: .relaxed) { host.setHealth(.ok) }
    }
}

@c(gw_plugin_v1)
public func entry(hostSize: Int) -> UnsafePointer<gw_plugin>? { unsafe pluginTable(of: FileSink.self, hostSize) }
