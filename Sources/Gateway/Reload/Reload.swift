import ConfigJSON
import HTTPServer
import LinuxSystem
import PluginHost
import ProfileAPI
import Receivers
import Synchronization
import Telemetry

/// The result of the last reload.
struct ReloadStatus: Sendable {
    /// Whether the running config is the one that was last read from the file.
    var isSuccessful = true
    /// The time of the last reading of the file; Unix nanoseconds.
    var at = MonotonicTime.unixNanoseconds
    /// The time at which the running config was read; Unix nanoseconds.
    var successAt = MonotonicTime.unixNanoseconds
    /// Why the file was refused, one problem per line.
    var problems: [String] = []
}

extension RunningGateway {
    /// Requests a reload, which runs soon on a thread of its own.
    func requestReload() {
        do throws(SystemError) { try reloads.request { [self] in reload() } } catch {
            Log.error("config not reloaded", ["error": "\(error)"])
            for reply in reloadRequests.take() { reply.send(.error(503, "the reload cannot be started")) }
        }
    }

    /// Reads the config and applies it; a config with a problem changes nothing.
    private func reload() {
        ServiceManager.isReloading()
        // Taken before the file is read: later requests must get another reload, because the file may change in between.
        let waiting = reloadRequests.take()
        let file = ConfigFile.read(configPath)
        var change = prepareChange(from: setup.withLock { $0 }, to: file.config, problems: file.problems)
        let problems = change.problems.map { $0.line(in: configPath) }
        for problem in problems { Log.error("config not reloaded", ["error": problem]) }
        if problems.isEmpty {
            guard reloads.commit({ commit(change) }) else {
                change.undo()
                for reply in waiting { reply.send(ReloadRequests.shuttingDown) }
                return
            }
            for warning in file.warnings { Log.warning("config", ["warning": warning.line(in: configPath)]) }
            Log.info("config reloaded", ["config": configPath, "receivers": "\(change.receivers.count)"])
        }
        let status = reloadStatus.withLock { status in
            let now = MonotonicTime.unixNanoseconds
            status = ReloadStatus(
                isSuccessful: problems.isEmpty, at: now, successAt: problems.isEmpty ? now : status.successAt, problems: problems)
            return status
        }
        let answer = ReloadRequests.answer(to: status)
        for reply in waiting { reply.send(answer) }
        ServiceManager.isReady(
            problems.isEmpty ? "Ready, receivers: \(receivers.count)" : "Ready; the config was not reloaded, see the log")
    }

    // MARK: Commit

    /// Applies a prepared change, which cannot fail any more.
    func commit(_ change: SetupChange) {
        Log.configure(change.config.log)
        parts.bodies.change(limit: change.config.limits.maxInFlightBytes, share: change.config.limits.maxInFlightBytesPerSender)
        Descriptors.process.divide(DescriptorBudget.Demand(change.config, loops: loops.count))
        parts.recent.change(change.config.admin?.recent ?? .none)
        let deadline = MonotonicTime.now + change.config.shutdownTimeout
        changeReceivers(change, deadline)
        let next = RunningSetup(
            config: change.config, receivers: change.receivers.map(\.receiver), runningListeners: change.listeners.map(\.running),
            admin: change.admin?.listener)
        setup.withLock { $0 = next }
        changeListeners(change, next)
        end(what: change, without: next, deadline)
        tellOfPlugins(next)
        // Reading the config and the plugins took memory that is not needed any more.
        returnFreedMemory()
    }

    private func changeReceivers(_ change: SetupChange, _ deadline: MonotonicTime) {
        for step in change.receivers where step.isNew {
            step.receiver.attach()
            if let next = step.next { step.receiver.serve(next) }
        }
        for step in change.receivers where !step.isNew {
            guard let former = step.receiver.change(to: step.config, step.next) else { continue }
            shutdownTasks.start(ShutdownTask(step.config.name, until: deadline) { task in step.receiver.retire(former, task) })
        }
    }

    private func changeListeners(_ change: SetupChange, _ next: RunningSetup) {
        for step in change.listeners {
            step.running.fanOut.replace(step.running.config.forwardTo.compactMap(next.receiver))
            let listener = step.running.listener
            listener.serve(step.service)
            for loop in loops { loop.join(listener) }
            for loop in loops { loop.post { if step.isNew { $0.listen(listener) } else { $0.adaptToTimeouts() } } }
            if step.isNew { Log.info("listening", ["listener": listener.name, "address": Self.address(listener)]) }
        }
        if let admin = change.admin { admin.listener.serve(admin.service) }
        // Pages that are open show their credentials again, to the new rules.
        if change.old.config.admin != change.config.admin { page.live.endAll() }
        guard let admin = change.admin else { return }
        postToAdmin { if admin.isNew { $0.listen(admin.listener) } else { $0.adaptToTimeouts() } }
        if admin.isNew { Log.info("admin is listening", ["address": Self.address(admin.listener)]) }
    }

    private static func address(_ listener: Listener) -> String {
        let configured = listener.service.http.address
        if listener.service.http.socketPath != nil { return configured }
        let address = configured.isEmpty ? "[::]" : configured
        return "\(address.contains(":") && !address.hasPrefix("[") ? "[\(address)]" : address):\(listener.port)"
    }

    private func tellOfPlugins(_ next: RunningSetup) {
        for receiver in next.receivers {
            guard let instance = receiver.present?.instance, !instance.isIsolated, instance.isOutdated else { continue }
            Log.warning("the plugin's file was changed; a restart loads it", ["receiver": receiver.name, "plugin": instance.file.path])
        }
    }
}
