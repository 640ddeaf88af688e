import Glibc
import LinuxSystem
import PluginHost
import Synchronization
import Telemetry

/// The life of the serving process: the main thread only handles signals, so that a hanging operation does not delay them.
final class GatewayProcess {
    private let signals: Signals
    private let exitGuard = ExitGuard()

    init(_ signals: consuming Signals) { self.signals = signals }

    /// Serves until SIGTERM or SIGINT, and `shutdown_delay` longer, then drains.
    ///
    /// - Returns: the exit status: 0, or 1 when a plugin did not end.
    func run(_ config: Config, path: String) throws(RunningGateway.StartError) -> Int32 {
        let (gateway, early) = try start(config, path)
        let stop = early ?? Stop(signal: waitForStop(gateway), wasReady: true)
        let config = gateway.setup.withLock { $0.config }
        let delay = stop.delay(config)
        Log.info("stopping", ["signal": stop.signal])
        ServiceManager.isStopping()
        if !stop.isHurried { exitGuard.set(.now + delay + config.shutdownTimeout + ExitGuard.patience) }
        let wasHurried = stop.isHurried || gateway.serveUnready(for: delay) { self.isHurried() }
        let status = gateway.drain(until: .now + config.shutdownTimeout) { wasHurried || self.isHurried() }
        Log.info("stopped", ["status": "\(status)"])
        return status
    }

    /// The first signal to stop.
    private struct Stop {
        let signal: String
        /// Whether the gateway had already said that it is ready.
        let wasReady: Bool
        /// Whether a second signal has come.
        var isHurried = false

        /// How long the gateway goes on serving; one that never said that it is ready was in no load balancer yet.
        func delay(_ config: Config) -> Duration { wasReady ? config.shutdownDelay : .zero }
    }

    /// Makes and starts the gateway on a thread of its own.
    ///
    /// - Returns: the gateway, and the signal to stop that arrived before the thread ended, if any.
    private func start(_ config: Config, _ path: String) throws(RunningGateway.StartError) -> (gateway: RunningGateway, early: Stop?) {
        let starting = Mutex<RunningGateway?>(nil)
        let result = Monitor<Result<RunningGateway, RunningGateway.StartError>?>(nil)
        let thread: Thread
        do throws(SystemError) {
            thread = try Thread("start") {
                let made = Result { () throws(RunningGateway.StartError) in
                    let gateway = try RunningGateway(config, path: path)
                    starting.withLock { $0 = gateway }
                    try gateway.start(config)
                    return gateway
                }
                result.withLock { $0 = made }
                result.signal()
            }
        } catch { throw RunningGateway.StartError(messages: ["\(error)"]) }
        var (stop, mustReload): (Stop?, Bool) = (nil, false)
        while true {
            let wake = MonotonicTime.now + .milliseconds(20)
            if let made = result.wait({ made in made.map { .done($0) } ?? (MonotonicTime.now >= wake ? .done(nil) : .again(wake)) }) {
                thread.join()
                let gateway = try made.get()
                if mustReload { gateway.requestReload() }
                return (gateway, stop)
            }
            guard stop == nil else {
                if isHurried() { stop?.isHurried = true }
                continue
            }
            switch signals.wait(until: .now) {
            case SIGHUP: mustReload = true
            case nil: break
            case let signal?:
                let first = Stop(signal: Self.name(signal), wasReady: starting.withLock { $0?.isReady ?? false })
                // Bounds the time for a start that hangs.
                exitGuard.set(.now + first.delay(config) + config.shutdownTimeout + ExitGuard.patience)
                stop = first
            }
        }
    }

    private func waitForStop(_ gateway: RunningGateway) -> String {
        while true {
            switch signals.wait(until: .never) {
            case SIGHUP: gateway.requestReload()
            case nil: break
            case let signal?: return Self.name(signal)
            }
        }
    }

    /// Whether a second signal has come: then nothing is waited for any more, but what ends at once is still ended.
    private func isHurried() -> Bool {
        guard let signal = signals.wait(until: .now), signal != SIGHUP else { return false }
        Log.warning("second signal received; stopping without waiting", ["signal": Self.name(signal)])
        exitGuard.shorten(to: .now + ExitGuard.patience)
        return true
    }

    private static func name(_ signal: Int32) -> String { signal == SIGINT ? "SIGINT" : "SIGTERM" }
}

/// Ends the process when its orderly end takes too long, for whatever reason.
final class ExitGuard: Sendable {
    /// How much longer than `shutdown_delay` and `shutdown_timeout` the end may take.
    static let patience = Duration.milliseconds(2900)

    private let deadline = Monitor(MonotonicTime.never)

    /// Sets the latest time at which the process ends, instead of one that was set before.
    func set(_ time: MonotonicTime) {
        let isFirst = deadline.withLock { deadline in
            defer { deadline = time }
            return deadline == .never
        }
        deadline.signal()
        guard isFirst else { return }
        do throws(SystemError) {
            try Thread.detached("exit-guard") { [self] in run() }
        } catch { Log.error("the guard of the shutdown time cannot be started", ["error": "\(error)"]) }
    }

    /// Sets an earlier time; a later one has no effect.
    func shorten(to time: MonotonicTime) { set(min(time, deadline.withLock { $0 })) }

    private func run() {
        deadline.wait { MonotonicTime.now >= $0 ? .done(()) : .again($0) }
        Log.error("not everything has ended in time; the process ends now")
        Log.flush(until: .now + .milliseconds(100))
        CrashGuard.processEnds()
        _exit(1)
    }
}
