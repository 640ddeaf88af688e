import LinuxSystem
import PluginHost
import Telemetry

/// The breaches of a receiver's plugins: counted by kind, logged once a minute for each kind. A plain value, protected by the
/// receiver's lock.
struct PluginBreaches {
    private(set) var counts: [PluginBreach.Kind: Int] = [:]
    private(set) var last: PluginBreach?
    private var lastWrong: (breach: PluginBreach, at: MonotonicTime)?
    /// When a kind was logged, and how often it has occurred since.
    private var logged: [PluginBreach.Kind: (at: MonotonicTime, since: Int)] = [:]

    private static let logInterval = Duration.seconds(60)
    /// How long a breach makes the receiver degraded.
    private static let degradedTime = Duration.seconds(600)

    /// Counts a breach.
    ///
    /// - Returns: how many breaches of its kind the log line that is due now stands for; nil when none is due.
    mutating func note(_ breach: PluginBreach, _ now: MonotonicTime) -> Int? {
        counts[breach.kind, default: 0] += 1
        last = breach
        // What takes too long makes the receiver failed for as long as it does.
        if breach.kind != .overdue { lastWrong = (breach, now) }
        let since = (logged[breach.kind]?.since ?? 0) + 1
        if let at = logged[breach.kind]?.at, now < at + Self.logInterval {
            logged[breach.kind] = (at, since)
            return nil
        }
        logged[breach.kind] = (now, 0)
        return since
    }

    /// The breach for which the receiver is degraded; nil when there has been none lately.
    func recent(_ now: MonotonicTime) -> PluginBreach? {
        lastWrong.flatMap { now < $0.at + Self.degradedTime ? $0.breach : nil }
    }
}

/// How many lines a plugin may still log now: 200 at once, and 50 a second. A plain value.
struct LogBudget {
    private static let burst = 200.0
    private static let perSecond = 50.0

    private var left = burst
    private var at = MonotonicTime(nanoseconds: 0)
    private var dropped = 0

    /// - Returns: nil when the line is to be dropped, otherwise the number of lines that were dropped before it.
    mutating func allowsLine(_ now: MonotonicTime) -> Int? {
        left = min(Self.burst, left + Double(max(0, now.nanoseconds - at.nanoseconds)) / 1e9 * Self.perSecond)
        at = now
        guard left >= 1 else {
            dropped += 1
            return nil
        }
        left -= 1
        defer { dropped = 0 }
        return dropped
    }
}

extension Receiver {
    /// Counts a breach of the plugin's contract, and logs it unless one of its kind was logged within a minute.
    func noteBreach(_ breach: PluginBreach) {
        guard let count = state.withLock({ $0.breaches.note(breach, .now) }) else { return }
        Log.error(
            "plugin broke its contract",
            ["receiver": name, "plugin": config.plugin, "kind": breach.kind.rawValue, "what": breach.what, "count": "\(count)"])
    }

    /// Logs a plugin's line, unless the plugin has logged too many.
    func logOfPlugin(_ level: Log.Level, _ message: String, _ fields: KeyValuePairs<String, String>) {
        guard let dropped = state.withLock({ $0.logBudget.allowsLine(.now) }) else { return }
        if dropped > 0 { Log.warning("lines of the plugin were dropped", ["receiver": name, "count": "\(dropped)"]) }
        Log.write(level, message, fields)
    }
}
