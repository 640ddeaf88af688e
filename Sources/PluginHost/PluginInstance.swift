package import LinuxSystem
import PluginABI
package import Profiles
import Telemetry

/// One instance of a plugin, in this process or in one of its own; makes the calls of `gw_plugin` as its contract requires.
///
/// All calls but ``abort()`` and ``kill(_:)`` come from the receiver's delivery thread and never overlap.
@safe package final class PluginInstance: Sendable {
    /// Where the plugin's code runs.
    @safe private enum Place {
        case here(plugin: UnsafePointer<gw_plugin>, instance: UnsafeMutableRawPointer, later: PluginLibrary.Later)
        case process(PluginProcess)
    }

    package let host: HostServices
    package let identity: PluginIdentity
    /// The plugin's own name.
    package var name: String { identity.name }
    /// The file that the plugin was loaded from.
    package let file: PluginFile
    /// Whether the plugin's file has changed since it was loaded.
    private let hasChanged: @Sendable () -> Bool
    private nonisolated(unsafe) let place: Place
    private let order = AbortOrder()

    /// The plugin's reason for refusing a config, one problem per line.
    package struct Refusal: Error {
        package let message: String

        package init(message: String) {
            self.message = message
        }

        /// Stands for a text that the plugin did not write.
        static let noReason = "the plugin refused without a reason"
        package var isWithoutReason: Bool { message == Self.noReason }
    }

    /// Why a plugin's process did not make an instance.
    package enum StartError: Error {
        /// A sentence of ``PluginLibrary/LoadError``.
        case notLoaded(String)
        case refused(Refusal)
        case ended(PluginEnd)
    }

    /// Whether the plugin's file has changed since it was loaded; never true for a plugin with a pinned SHA-256.
    package var isOutdated: Bool { hasChanged() }

    /// Whether the plugin runs in a process of its own.
    package var isIsolated: Bool { if case .process = unsafe place { true } else { false } }

    /// Creates an instance in a process of its own, from a config in strict JSON.
    ///
    /// - Parameters:
    ///   - facts: what the plugin may know; a process with another user gets no folder, which it could not reach.
    ///   - createTime: how long `create` may take, now and after each end of the process.
    package init(
        _ file: PluginFile, config: String, references: Set<String>, _ facts: InstanceFacts, _ isolation: ProcessIsolation,
        createTime: Duration, host: HostServices
    ) throws(StartError) {
        let stamp = FileStamp(of: file.path)
        let start = PluginStart(
            receiver: facts.receiver, path: file.path, sha256: file.sha256 ?? "", config: config, references: references.sorted(),
            files: isolation.files, user: isolation.user, hasLowPriority: isolation.hasLowPriority,
            gatewayVersion: facts.gatewayVersion, directory: isolation.user == nil ? facts.makeDirectory() ?? "" : "",
            maxInFlight: facts.maxInFlight, deliveryTimeout: facts.deliveryTimeout)
        let process = PluginProcess(start, isolation, createTime: createTime, host: host)
        identity = try process.create()
        (self.file, self.host) = (file, host)
        hasChanged = { file.sha256 == nil && FileStamp(of: file.path) != stamp }
        unsafe place = .process(process)
    }

    /// Loads a plugin in a process of its own, without an instance, to learn what it is.
    package static func identify(_ file: PluginFile) throws(StartError) -> PluginIdentity { try PluginProcess.identify(file) }

    /// Starts the process of an isolated plugin again after it has ended; does nothing for others.
    package func restart() throws(StartError) {
        guard case .process(let process) = unsafe place, !process.isRunning else { return }
        _ = try process.create()
    }

    /// Ends the process of an isolated plugin.
    ///
    /// - Parameter why: a sentence without its full stop, for the log.
    /// - Returns: false when the plugin runs in this process.
    package func kill(_ why: String) -> Bool {
        guard case .process(let process) = unsafe place else { return false }
        process.kill(why)
        return true
    }

    /// Creates an instance in this process, from a config in strict JSON.
    package init(_ library: PluginLibrary, config: String, host: HostServices) throws(Refusal) {
        self.host = host
        identity = library.identity
        file = library.file
        hasChanged = { library.isOutdated }
        let turn = StartTurns.begin()
        var made: UnsafeMutableRawPointer?
        let problem = unsafe withErrorText { error in
            var config = config
            let table = unsafe UnsafePointer(host.table)
            unsafe made = config.withUTF8 { config in
                unsafe library.table.pointee.create(table, gw_slice(bytes: config.baseAddress, count: config.count), error)
            }
            return unsafe made != nil
        }
        let change = ProcessState.own.restore().map { "create changed \($0)" }
        let wasAlone = StartTurns.end(turn)
        if let change {
            if wasAlone {
                host.events.pluginMisbehaved(PluginBreach(.processState, change))
            } else {
                Log.warning(
                    "create of one of several plugins, which started at once, broke the contract",
                    ["receiver": host.facts?.receiver ?? "", "problem": change])
            }
        }
        guard let made = unsafe made else { throw Refusal(message: problem ?? "") }
        unsafe place = .here(plugin: library.table, instance: made, later: library.later)
    }

    /// Hands over one profile; the outcome comes through the host's `finish`, perhaps before this call returns.
    package func deliver(_ profile: ReceivedProfile, token: UInt, attempt: Int, progress: UInt64) {
        switch unsafe place {
        case .here(let plugin, let instance, _):
            var delivery = unsafe gw_delivery(
                size: MemoryLayout<gw_delivery>.size, token: UnsafeMutableRawPointer(bitPattern: token),
                attempt: UInt32(clamping: attempt), progress: progress)
            give(token, progress: progress) { unsafe plugin.pointee.deliver(instance, profile.view, &delivery) }
        case .process(let process): process.deliver(profile, token: token, attempt: attempt, progress: progress)
        }
    }

    /// The result of ``start()``.
    package enum Start {
        case started
        /// The plugin cannot work yet, for this reason.
        case failed(String)
        /// The plugin's process has ended, which ``PluginEvents/pluginEnded(_:)`` tells.
        case ended
    }

    /// Lets the plugin begin its threads and connections; called before the first delivery, and again until it succeeds.
    package func start() -> Start {
        switch unsafe place {
        case .here(_, let instance, let later):
            guard let start = unsafe later.start else { return .started }
            let problem = unsafe withErrorText { unsafe start(instance, $0) == 0 }
            return problem.map { .failed($0) } ?? .started
        case .process(let process): return process.start()
        }
    }

    /// Tells the plugin that few profiles or none follow.
    package func drain() {
        switch unsafe place {
        case .here(_, let instance, let later): unsafe later.drain?(instance)
        case .process(let process): process.drain()
        }
    }

    /// Lets the plugin connect and authenticate without a profile; its answer comes through the host's `finish`. Only called where
    /// ``PluginIdentity/later`` has it.
    package func probe(token: UInt) {
        switch unsafe place {
        case .here(_, let instance, let later): give(token) { unsafe later.probe?(instance, UnsafeMutableRawPointer(bitPattern: token)) }
        case .process(let process): process.probe(token: token)
        }
    }

    /// When ``fireTimer(now:)`` is to be called; `never` for a plugin in a process of its own, where that is done.
    package var nextTimer: MonotonicTime { host.timers.next }

    /// Makes the call of the timer that has been due for longest, if one is due.
    package func fireTimer(now: MonotonicTime) { host.timers.fire(now: now) }

    /// Whether the plugin watches descriptors, so that its thread waits by ``wait(until:)``.
    package var watchesDescriptors: Bool { host.loop.isUsed }

    /// Waits on the instance's thread until a descriptor is ready, ``wake()`` is called or the time has come.
    ///
    /// - Returns: whether ``callReady()`` has calls to make.
    package func wait(until time: MonotonicTime) -> Bool { host.loop.wait(until: time) }

    /// Makes the calls for the descriptors that were ready.
    package func callReady() { host.loop.makeCalls() }

    /// Ends the current or next ``wait(until:)``; callable from any thread.
    package func wake() { host.loop.wake() }

    package func flush(token: UInt) {
        switch unsafe place {
        case .here(let plugin, let instance, _):
            give(token) { unsafe plugin.pointee.flush(instance, UnsafeMutableRawPointer(bitPattern: token)) }
        case .process(let process): process.flush(token: token)
        }
    }

    /// Lets the plugin finish what is open; from any thread. What it would be given later is finished without it, as aborted.
    package func abort() {
        switch unsafe place {
        case .here: order.abort(callAbort)
        case .process(let process): process.abort()
        }
    }

    private func callAbort() {
        if case .here(let plugin, let instance, _) = unsafe place { unsafe plugin.pointee.abort(instance) }
    }

    /// Makes a call that gives the plugin an operation, unless the instance was aborted.
    private func give(_ token: UInt, progress: UInt64 = 0, _ call: () -> Void) {
        if !order.give(call, abort: callAbort) { host.events.finish(token, DeliveryOutcome(status: .aborted, progress: progress)) }
    }

    /// Frees the instance; nothing may be called after this.
    package func destroy() {
        switch unsafe place {
        case .here(let plugin, let instance, _): unsafe plugin.pointee.destroy(instance)
        case .process(let process): process.destroy()
        }
        host.ended()
    }
}

/// Lends a plugin room for the text of an error.
///
/// - Parameter body: returns whether the plugin has succeeded.
/// - Returns: the text when it has not, and a standard one when it wrote none; nil when it has.
private func withErrorText(_ body: (UnsafeMutablePointer<gw_error>) -> Bool) -> String? {
    var text = [CChar](repeating: 0, count: 8192)
    return unsafe text.withUnsafeMutableBufferPointer { room -> String? in
        guard let start = room.baseAddress else { return nil }
        var error = unsafe gw_error(text: start, capacity: room.count, count: 0)
        if unsafe body(&error) { return nil }
        let message = String(decoding: unsafe room[..<min(error.count, room.count)].map { UInt8(bitPattern: $0) }, as: UTF8.self)
        return message.isEmpty ? PluginInstance.Refusal.noReason : message
    }
}
