import ConfigJSON
package import PluginHost

/// What is remembered of crashes in plugins over restarts: when a receiver's plugin crashed, and which profiles were open then.
package struct CrashHistory: Equatable, Sendable {
    /// How many crashes of a plugin within ``window`` keep its receiver from being started.
    static let mostCrashes = 5
    /// Seconds.
    static let window: Int64 = 600
    /// How many crashes at which a profile was the only one open make it a dead letter.
    static let mostAlone = 3
    /// The most profiles of a receiver that are remembered because they were alone at a crash.
    static let mostRemembered = 1024

    /// The times of the crashes within ``window``, by receiver; Unix seconds.
    private var crashes: [String: [Int64]] = [:]
    /// By receiver, when a process ended without a word while it loaded or created the plugin, since it was last created; Unix seconds.
    private var failedStarts: [String: [Int64]] = [:]
    /// By receiver, the sequences of the profiles that were open at its last crash or alone at an earlier one; each with the number
    /// of crashes at which it was alone.
    private var suspects: [String: [UInt64: Int]] = [:]

    package init() {}

    /// Adds a crash.
    ///
    /// The receivers are blamed whose code or call the process crashed in. Where that is unknown, everything that was open is only
    /// delivered with care. What was already alone counts, unless another cause is known or another receiver's plugin was started. A start
    /// counts when it fails again and again, without having succeeded in between.
    package mutating func add(_ report: CrashReport) {
        let blamed = report.culprits
        let isSilent = report.cause == nil
        // Where it may have been one of several, nobody is suspicious.
        let suspicious = isSilent ? report.instances.filter { $0.alone != 0 || $0.isStarting } : []
        for instance in blamed.isEmpty ? report.instances : blamed {
            let isSuspicious = suspicious.count == 1 && suspicious[0] == instance
            if !instance.isStarting { failedStarts[instance.receiver] = nil }
            if isSuspicious, instance.isStarting { failedStarts[instance.receiver, default: []].append(report.time) }
            if instance.isCulprit { crashes[instance.receiver, default: []].append(report.time) }
            guard [nil, .deliver, .timer, .ready].contains(instance.call) else { continue }
            var open = instance.open
            if instance.call == .deliver, instance.sequence != 0 { open.insert(instance.sequence) }
            let isAlone = open.count == 1 && (blamed.count == 1 || isSuspicious)
            suspects[instance.receiver] = Self.suspects(open, isAlone: isAlone, before: suspects[instance.receiver] ?? [:])
        }
        for name in crashes.keys { crashes[name]?.removeAll { !Self.isRecent($0, report.time) } }
        for name in failedStarts.keys { failedStarts[name]?.removeAll { !Self.isRecent($0, report.time) } }
    }

    /// The suspects after a crash, with the number of crashes at which each was alone.
    static func suspects(_ open: Set<UInt64>, isAlone: Bool, before: [UInt64: Int]) -> [UInt64: Int] {
        // A sequence rises with time, so that the newest are kept.
        let counted = before.filter { $0.value > 0 }.sorted { $0.key > $1.key }.prefix(mostRemembered)
        var after = Dictionary(uniqueKeysWithValues: counted.map { ($0.key, $0.value) })
        for sequence in open { after[sequence] = (before[sequence] ?? 0) + (isAlone ? 1 : 0) }
        return after
    }

    /// A clock that was set back is not a reason to keep a plugin from starting.
    private static func isRecent(_ time: Int64, _ now: Int64) -> Bool { time <= now && now - time < window }

    /// Whether a receiver's plugin has crashed so often lately that it is not started.
    ///
    /// - Parameter now: Unix seconds.
    package func isLooping(_ receiver: String, now: Int64) -> Bool {
        [crashes, failedStarts].contains { ($0[receiver] ?? []).count { Self.isRecent($0, now) } >= Self.mostCrashes }
    }

    /// Whether a receiver's plugin has crashed lately.
    func hasCrashed(_ receiver: String, now: Int64) -> Bool { (crashes[receiver] ?? []).contains { Self.isRecent($0, now) } }

    /// The profiles to be delivered one at a time, with the number of crashes at which each was alone.
    package func suspects(of receiver: String) -> [UInt64: Int] { suspects[receiver] ?? [:] }
}

extension CrashHistory {
    /// The history as JSON.
    package var text: String {
        let times = [crashes, failedStarts].map { times in
            let members = times.sorted { $0.key < $1.key }.map {
                "\(JSONValue.quoted($0.key)):[\($0.value.map(String.init).joined(separator: ","))]"
            }
            return "{\(members.joined(separator: ","))}"
        }
        let suspects = suspects.sorted { $0.key < $1.key }.map { name, counts in
            let members = counts.sorted { $0.key < $1.key }.map { "\"\($0.key)\":\($0.value)" }
            return "\(JSONValue.quoted(name)):{\(members.joined(separator: ","))}"
        }
        return "{\"crashes\":\(times[0]),\"failed_starts\":\(times[1]),\"suspects\":{\(suspects.joined(separator: ","))}}\n"
    }

    /// Reads ``text``; nil when it is not a history.
    package init?(_ text: [UInt8]) {
        guard case .object(let members)? = JSONParser.parse(text, dialect: .strict, problems: Problems())?.content else { return nil }
        for member in members {
            guard case .object(let receivers) = member.value.content else { return nil }
            for receiver in receivers {
                switch (member.name, receiver.value.content) {
                case ("crashes", .array(let times)): crashes[receiver.name] = Self.times(times)
                case ("failed_starts", .array(let times)): failedStarts[receiver.name] = Self.times(times)
                case ("suspects", .object(let counts)):
                    for count in counts {
                        guard let sequence = UInt64(count.name), case .number(let text) = count.value.content, let number = Int(text),
                            0...Self.mostAlone ~= number
                        else { return nil }
                        suspects[receiver.name, default: [:]][sequence] = number
                    }
                default: return nil
                }
            }
        }
    }

    private static func times(_ values: [JSONValue]) -> [Int64] {
        values.compactMap { if case .number(let text) = $0.content { Int64(text) } else { nil } }
    }
}
