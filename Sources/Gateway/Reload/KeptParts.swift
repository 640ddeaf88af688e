import HTTPServer
import ProfileAPI
import Receivers
import SpoolStore
import Synchronization

/// The parts of the gateway that every config uses, from the start to the end of the process.
struct KeptParts: Sendable {
    let bodies: BodyBudget
    let largePushes: LargePushes
    /// nil without `data_dir`.
    let spool: Spool?
    let deadLetters: DeadLetters?
    let memories: RequestMemories
    /// The endings of objects that reloads have removed or replaced.
    let shutdownTasks = ShutdownTasks()
    let directory: DataDirectory?
    let crashes: CrashMemory
    let readiness = Readiness()
    /// The accepted profiles that the page shows.
    let recent = FanOut.Recent()

    /// Opens the spool, if the config has one.
    init(_ config: Config) throws(RunningGateway.StartError) {
        bodies = BodyBudget(limit: .max)
        largePushes = LargePushes(bodies: bodies)
        directory = config.dataDirectory.map(DataDirectory.init)
        do throws(SpoolRecovery.Refusal) {
            spool = try directory.map { directory throws(SpoolRecovery.Refusal) in
                try Spool(directory, config.spool, pendingLimit: config.limits.maxInFlightBytes)
            }
        } catch { throw RunningGateway.StartError(messages: [error.description]) }
        deadLetters = directory.map {
            DeadLetters(in: $0, limits: config.deadLetters) { Descriptors.process.budget.deadLetterFiles }
        }
        // After the spool, whose lock keeps a second gateway from the directory.
        crashes = CrashMemory(in: directory)
        memories = RequestMemories(config.listeners.compactMap(config.window), in: directory, config.spool)
    }

    /// The routes of a `receive_http` listener.
    func routes(_ listener: ListenerConfig, _ limits: Limits, _ intake: ProfileIntake) -> IngestRoutes {
        let isReady: @Sendable () -> Bool = { [readiness] in readiness.isReady }
        return IngestRoutes(
            ingest: IngestEndpoint(limits: limits, intake: intake),
            push: PushEndpoint(limits: limits, intake: intake, largePushes: largePushes), below: listener.pathPrefix,
            isReady: listener.health ? isReady : nil)
    }
}

/// Whether the gateway takes profiles: false while it starts, and from the signal to stop on.
final class Readiness: Sendable {
    private let state = Atomic<Bool>(false)

    var isReady: Bool { state.load(ordering: .relaxed) }

    func set(_ isReady: Bool) { state.store(isReady, ordering: .relaxed) }
}
