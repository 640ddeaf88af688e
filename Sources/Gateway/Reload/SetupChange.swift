import ConfigJSON
import HTTPServer
import LinuxSystem
import PluginHost
import ProfileAPI
import Receivers
import SpoolStore
import Synchronization
import Telemetry

/// A change from the running setup to a new config: everything new is made first, so that a failure changes nothing.
struct SetupChange {
    /// One receiver of the new config.
    struct ReceiverStep {
        let config: ReceiverConfig
        let receiver: Receiver
        let isNew: Bool
        /// The new plugin instance; nil keeps the present one.
        let next: DeliveryThread?
    }

    /// One listener of the new config.
    struct ListenerStep {
        let running: RunningSetup.RunningListener
        let service: Listener.Service
        let isNew: Bool
    }

    let config: Config
    let old: RunningSetup
    /// The problems that prevent the change.
    private(set) var problems: [Problem] = []
    private(set) var receivers: [ReceiverStep] = []
    private(set) var listeners: [ListenerStep] = []
    private(set) var admin: (listener: Listener, service: Listener.Service, isNew: Bool)?
    private let parts: KeptParts
    private let adminRoutes: (AdminVisitors) -> AdminEndpoint
    /// Whether this is the start of the gateway, with nothing running yet.
    private let isStart: Bool

    /// The access controls of the old listeners that the new ones do not use.
    var replacedControls: [AccessControl] {
        let kept = listeners.compactMap(\.service.security.access) + [admin?.service.security.access].compactMap(\.self)
        return presentControls.filter { present in !kept.contains { $0 === present } }
    }

    private let presentControls: [AccessControl]

    /// - Parameters:
    ///   - parts: the parts of the gateway that stay.
    ///   - adminRoutes: makes what the admin listener serves.
    ///   - problems: the problems of the config file.
    init(
        _ parts: KeptParts, from old: RunningSetup, to config: Config, problems: [Problem] = [],
        adminRoutes: @escaping (AdminVisitors) -> AdminEndpoint
    ) {
        (self.parts, self.old, self.config, self.problems, self.adminRoutes) = (parts, old, config, problems, adminRoutes)
        isStart = old.receivers.isEmpty
        presentControls = old.allListeners.compactMap(\.service.security.access)
    }

    /// Makes everything new; when there are problems, all of it is undone.
    mutating func prepare() {
        if !isStart { refuseWhatNeedsRestart() }
        for entry in config.receivers where !entry.plugin.isEmpty { prepare(entry) }
        // All instances are created at the same time, because each may take long.
        var patience = Patience(DeliveryThread.createTime)
        for step in receivers where !mayTakeLonger(step) { waitForInstance(step, &patience, of: DeliveryThread.createTime) }
        patience = Patience(DeliveryThread.processCreateTime - DeliveryThread.createTime + patience.left)
        for step in receivers where mayTakeLonger(step) { waitForInstance(step, &patience, of: DeliveryThread.processCreateTime) }
        let security = readSecurity()
        if problems.isEmpty, let security {
            for (entry, security) in zip(config.listeners, security.listeners) { prepare(entry, security) }
            prepareAdmin(security.admin)
        }
        problems.sortByPlace()
        if !problems.isEmpty { undo() }
    }

    /// Adds a problem, and undoes what was made.
    mutating func refuse(_ problem: Problem) {
        problems.append(problem)
        undo()
    }

    /// Ends and closes what was made; plugins are not waited for.
    mutating func undo() {
        let shutdownTasks = receivers.compactMap { step in
            step.next.map { next in ShutdownTask(step.config.name, until: .now) { step.receiver.retire(next, $0) } }
        }
        for task in shutdownTasks { parts.shutdownTasks.start(task) }
        for step in listeners where step.isNew { step.running.listener.close() }
        if let admin, admin.isNew { admin.listener.close() }
        (receivers, listeners, admin) = ([], [], nil)
    }

    private mutating func refuseWhatNeedsRestart() {
        let changed = [
            ("data_dir", config.dataDirectory != old.config.dataDirectory), ("spool", config.spool != old.config.spool),
            ("dead_letters", config.deadLetters != old.config.deadLetters), ("loops", config.loops != old.config.loops),
        ]
        for (name, isChanged) in changed where isChanged {
            problems.append(Problem(position: nil, path: name, message: "is read at the start alone; restart to change it"))
        }
    }

    // MARK: Receivers

    private mutating func prepare(_ entry: ReceiverConfig) {
        do throws(PluginProblems) {
            let present = old.receiver(entry.name)
            if present == nil { try refuseWhatStillLeaves(entry) }
            let receiver =
                present
                ?? Receiver(
                    entry, spool: parts.spool, deadLetters: parts.deadLetters, directory: parts.directory,
                    gatewayVersion: RunningGateway.version, recent: parts.recent)
            let file: PluginFile
            do throws(PluginLibrary.LoadError) { file = try entry.pluginName.find(in: config.pluginFolders) } catch {
                throw PluginProblems(error, entry)
            }
            let now = MonotonicTime.unixNanoseconds / 1_000_000_000
            let needsInstance =
                present?.needsInstance(for: entry, of: file) ?? receiver.remember(parts.crashes.history, now: now, isStart: isStart)
            let next = needsInstance ? DeliveryThread(of: receiver, entry) : nil
            do throws(SystemError) {
                try next?.start(entry, from: config.pluginFolders, after: present?.present, retries: isStart)
            } catch { return note(error, Problems.path("receivers", entry.name)) }
            receivers.append(ReceiverStep(config: entry, receiver: receiver, isNew: present == nil, next: next))
        } catch { problems += error.list }
    }

    /// A second queue of the same name would deliver the same records.
    private func refuseWhatStillLeaves(_ entry: ReceiverConfig) throws(PluginProblems) {
        guard parts.spool?.hasClient(entry.name) == true else { return }
        let message = "the receiver of this name that was removed still delivers what it has; reload again when it has ended"
        throw PluginProblems(list: [Problem(position: nil, path: Problems.path("receivers", entry.name), message: message)])
    }

    /// Waits for the plugin to make an instance; at the start, a slow one delays only its own receiver, unless it is required.
    private mutating func waitForInstance(_ step: ReceiverStep, _ patience: inout Patience, of time: Duration) {
        guard let next = step.next else { return }
        switch next.creation(&patience) {
        case .made where step.config.requiredAtStart && isStart: refuseFailed(step, next)
        case .made: break
        case .refused(let list): problems += list
        case .pending where isStart && !step.config.requiredAtStart: break
        case .pending:
            let message = "create of the plugin has not returned after \(time.inWords)"
            problems.append(Problem(position: step.config.pluginPosition, path: path(of: step), message: message))
        }
    }

    /// Whether the start or the reload fails when the instance is not there in time, and its process must begin first.
    private func mayTakeLonger(_ step: ReceiverStep) -> Bool {
        step.config.isolation != nil && (step.config.requiredAtStart || !isStart)
    }

    /// Refuses a receiver that is required at the start and reports a failure.
    private mutating func refuseFailed(_ step: ReceiverStep, _ next: DeliveryThread) {
        guard let stated = step.receiver.stated(by: next.number), stated.health == .failed else { return }
        let message = "is required at the start, and failed: \(printable(stated.reason))"
        problems.append(Problem(position: step.config.pluginPosition, path: path(of: step), message: message))
    }

    private func path(of step: ReceiverStep) -> String { Problems.path("receivers", step.config.name) }

    private mutating func note(_ error: SystemError, _ path: String) {
        problems.append(Problem(position: nil, path: path, message: "\(error)"))
    }

    // MARK: Listeners

    /// Reads the files of TLS and authentication before any listener is opened.
    private mutating func readSecurity() -> (listeners: [Listener.Security], admin: Listener.Security?)? {
        var found = FileProblems()
        let listeners = config.listeners.map { entry in
            found.collect(all: { () throws(FileProblems) in try Listener.Security(entry.http) })
        }
        let admin = found.collect(all: { () throws(FileProblems) in
            try config.admin.map { admin throws(FileProblems) in try Listener.Security(admin.http) }
        })
        problems += found.list
        return found.list.isEmpty ? (listeners.compactMap(\.self), admin) : nil
    }

    private mutating func prepare(_ entry: ListenerConfig, _ security: Listener.Security) {
        let present = old.running(entry.name)
        let kept = present.flatMap { $0.config.http.hasAddress(of: entry.http) ? $0 : nil }
        let rates = present?.config.rateLimit == entry.rateLimit ? present?.rates : nil
        let fanOut = kept?.fanOut ?? FanOut(receivers: [], spool: parts.spool, recent: parts.recent)
        let memory = config.window(of: entry).map(parts.memories.memory)
        let counters = present?.listener.counters ?? ListenerCounters()
        let profiles = present?.profiles ?? ProfileCounters()
        let intake = ProfileIntake(
            ack: entry.ack, tenant: entry.tenant, rates: rates ?? entry.rateLimit.map(RateLimiter.init), keepHeaders: entry.keepHeaders,
            fanOut: fanOut, counters: profiles, memory: memory)
        let service = Listener.Service(
            entry.http,
            security: present.map { security.keeping($0.listener.service.security, entry.http, as: $0.config.http) } ?? security,
            routes: parts.routes(entry, config.limits, intake))
        do throws(SystemError) {
            let listener = if let kept { kept.listener } else { try open(entry, service, counters) }
            let running = RunningSetup.RunningListener(
                config: entry, listener: listener, fanOut: fanOut, rates: intake.rates, profiles: profiles)
            listeners.append(ListenerStep(running: running, service: service, isNew: kept == nil))
        } catch { note(error, Problems.path("receive_http", entry.name)) }
    }

    private func open(
        _ entry: ListenerConfig, _ service: Listener.Service, _ counters: ListenerCounters
    ) throws(SystemError) -> Listener {
        try Listener(
            entry.name, service, bodies: parts.bodies, counters: counters, share: Descriptors.process.senders,
            sharing: leaving(entry.http))
    }

    /// A listener at the same address that the new config has under another name, or no longer has.
    private func leaving(_ http: HTTPConfig) -> Listener? {
        guard http.port != 0 || http.socketPath != nil else { return nil }
        let leaving = old.runningListeners.first { running in
            running.config.http.hasAddress(of: http)
                && !config.listeners.contains { $0.name == running.config.name && $0.http.hasAddress(of: http) }
        }
        // Only the first new listener gets the socket; for a second one the address is in use.
        let isTaken = listeners.contains { $0.isNew && $0.running.config.http.hasAddress(of: http) }
        return isTaken ? nil : leaving?.listener
    }

    private mutating func prepareAdmin(_ security: Listener.Security?) {
        guard let entry = config.admin, var security else { return }
        let before = old.config.admin?.http ?? HTTPConfig()
        let kept = before.hasAddress(of: entry.http) ? old.admin : nil
        if let admin = old.admin { security = security.keeping(admin.service.security, entry.http, as: before) }
        let service = Listener.Service(
            entry.http, security: security, routes: adminRoutes(AdminVisitors(hosts: entry.hosts)))
        do throws(SystemError) {
            let listener =
                if let kept { kept } else {
                    try Listener(
                        "admin", service, bodies: BodyBudget(limit: .max), counters: ListenerCounters(), share: Descriptors.process.admin)
                }
            admin = (listener, service, kept == nil)
        } catch { note(error, "admin") }
    }
}
