import Foundation

/// Makes file operations of a process below a folder fail as told, and records all of them; see `Servers/faults.c`.
final class FaultShim {
    /// One file operation.
    struct Call {
        let name: String
        let path: String
        let offset: Int
        let count: Int
        let result: Int
        let isInjected: Bool

        var hasSucceeded: Bool { result >= 0 }
        var isWrite: Bool { name.contains("write") }
        var isSync: Bool { name == "fsync" || name == "fdatasync" }
    }

    /// The environment to start a gateway with.
    let environment: [String: String]
    private let scenario: Scenario

    /// - Parameter folder: a folder below that of the scenario, which may be missing yet.
    init(_ scenario: Scenario, below folder: String) throws {
        self.scenario = scenario
        let made = try scenario.run(
            "cc", "-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", "faults.so", "\(Project.servers)/faults.c")
        guard made.status == 0 else { throw NeverCame(what: "faults.so", seen: made.output) }
        environment = [
            "LD_PRELOAD": scenario.path("faults.so"), "FAULTS_BELOW": scenario.path(folder), "FAULTS_CONTROL": scenario.path("faults"),
            "FAULTS_LOG": scenario.path("faults.log"),
        ]
        try scenario.write("", to: "faults")
        try scenario.write("", to: "faults.log")
    }

    /// Replaces the rules; their counts start anew.
    func set(_ rules: String...) throws { try scenario.replace("faults", text: rules.map { $0 + "\n" }.joined()) }

    /// The operations so far, in order.
    var calls: [Call] {
        get throws {
            let text = try String(contentsOfFile: scenario.path("faults.log"), encoding: .utf8)
            // The last line may be incomplete.
            return text.prefix(upTo: text.lastIndex(of: "\n") ?? text.startIndex).split(separator: "\n").map { line in
                let words = line.split(separator: " ")
                let numbers = words[2...].prefix(4).map { Int($0) ?? 0 }
                return Call(
                    name: String(words[0]), path: String(words[1]), offset: numbers[0], count: numbers[1], result: numbers[2],
                    isInjected: words.count > 6)
            }
        }
    }

    /// Waits until this many operations have failed.
    func waitForFault(_ gateway: GatewayProcess, count: Int = 1) throws {
        let limit = Date(timeIntervalSinceNow: Project.patience)
        while try calls.count(where: \.isInjected) < count {
            guard Date() < limit else { throw NeverCame(what: "\(count) faults", seen: gateway.log.lines) }
            gateway.log.pause()
        }
    }
}

/// The files that a disk may lose in a power cut: all that was not synced.
struct PowerCut {
    /// The ranges written but not synced, by path.
    private var unsynced: [String: [Range<Int>]] = [:]
    private var unsyncedAtBegin: [String: Int] = [:]
    /// Files whose folder was not synced since they were created or renamed.
    private var unnamed: Set<String> = []
    private var renamed: String?

    init(_ calls: [FaultShim.Call]) {
        for call in calls { take(call) }
    }

    /// Updates the state after one operation.
    private mutating func take(_ call: FaultShim.Call) {
        if call.isWrite, call.result > 0 {
            unsynced[call.path, default: []].append(call.offset..<(call.offset + call.result))
        } else if call.name.hasPrefix("begin-") {
            unsyncedAtBegin[call.path] = unsynced[call.path]?.count ?? 0
        } else if call.isSync, call.hasSucceeded {
            // A sync may or may not include what was written while it ran.
            unsynced[call.path] = unsynced[call.path].map { Array($0.dropFirst(unsyncedAtBegin[call.path] ?? 0)) }
            unsyncedAtBegin[call.path] = 0
            unnamed = unnamed.filter { URL(fileURLWithPath: $0).deletingLastPathComponent().path != call.path }
        } else if call.name == "create", call.hasSucceeded {
            unnamed.insert(call.path)
            unsynced[call.path] = []
        } else if call.name == "rename-from", call.hasSucceeded {
            renamed = call.path
            unnamed.remove(call.path)
        } else if call.name == "rename", call.hasSucceeded {
            unnamed.insert(call.path)
            unsynced[call.path] = renamed.flatMap { unsynced.removeValue(forKey: $0) } ?? []
            renamed = nil
        }
    }

    /// Whether a power cut would take something of a file whose name ends so, or the file.
    func takes(from ending: String) -> Bool {
        unnamed.contains { $0.hasSuffix(ending) } || unsynced.contains { $0.key.hasSuffix(ending) && !$0.value.isEmpty }
    }

    /// Changes the files to the worst state that is possible after the power cut.
    ///
    /// - Returns: how many bytes and files are lost.
    func strike() throws -> (bytes: Int, files: Int) {
        var (bytes, files) = (0, 0)
        for path in unnamed where FileManager.default.fileExists(atPath: path) {
            try FileManager.default.removeItem(atPath: path)
            files += 1
        }
        for (path, ranges) in unsynced where !ranges.isEmpty && FileManager.default.fileExists(atPath: path) {
            let file = try FileHandle(forUpdating: URL(fileURLWithPath: path))
            defer { try? file.close() }
            let size = Int(try file.seekToEnd())
            for range in ranges where range.lowerBound < size {
                let lost = range.clamped(to: 0..<size)
                try file.seek(toOffset: UInt64(lost.lowerBound))
                try file.write(contentsOf: Data(count: lost.count))
                bytes += lost.count
            }
        }
        return (bytes, files)
    }
}
