import Foundation
import Testing

@testable import TestSupport

/// Plugins in processes of their own, in a real gateway.
@Suite("Plugins in a process of their own")
struct PluginProcessTests {
    /// Starts a gateway with an isolated receiver `odd` and one in the gateway's process, `good`.
    private func gateway(
        _ source: String, _ config: String, _ odd: String = "", settings: String = "", in folder: TestFolder, _ flags: [String] = []
    ) throws -> RunningGateway {
        let plugin = try CPlugin.build(source, as: folder.path("libodd.so"), flags)
        let quiet = try CPlugin.build("misbehaving.c", as: folder.path("libgood.so"))
        return try RunningGateway(
            [
                ("odd", #"{ "plugin": "\#(plugin)", "isolation": "process", \#(odd) "config": \#(config) }"#),
                ("good", #"{ "plugin": "\#(quiet)", "config": { "do": "nothing odd" } }"#),
            ],
            settings: settings, in: folder)
    }

    private func delivered(_ gateway: RunningGateway, _ receiver: String, _ count: Int) throws {
        try gateway.wait(forMetric: "gateway_profiles_delivered_total{receiver=\"\(receiver)\"}", toBe: "\(count)")
    }

    // MARK: The end of the process

    @Test(
        "A profile that ends the process three times becomes a dead letter; the gateway and everything else go on",
        .disabled(if: Project.isSanitized, "a sanitizer handles fatal signals itself, and needs memory"),
        arguments: ["segv", "abort", "exit", "stack", "thread", "quit", "overflow", "raise", "close", "hang", "hog"])
    func poison(way: String) throws {
        let folder = try TestFolder()
        let gateway = try gateway(
            "crasher.c", #"{ "by": "\#(way)" }"#,
            #""delivery_timeout": "\#(way == "hang" ? "5s" : "60s")", "process": { "memory": "48MiB" },"#,
            settings: #""data_dir": "\#(folder.path("data"))","#, in: folder)
        for body in ["ok 1", "poison 1", "ok 2"] { #expect(try gateway.send(body) == "200") }
        try gateway.logLine("profile put with the dead letters", "receiver=odd", "reason=crashed")
        try delivered(gateway, "odd", 2)
        try delivered(gateway, "good", 3)
        let ends = gateway.log.filter { $0.contains("the plugin's process ended") && $0.contains("receiver=odd") }
        let how = [
            "segv": "SIGSEGV", "abort": "SIGABRT", "exit": "status 3", "stack": "SIGSEGV", "thread": "SIGSEGV", "quit": "status 3",
            "overflow": "SIGSEGV", "raise": "SIGKILL", "close": "it ", "hang": "took longer than delivery_timeout",
            "hog": "and may have 48",
        ]
        #expect(ends.count >= 3 && ends.allSatisfy { $0.contains(how[way] ?? "?") && $0.contains("open=") })
        #expect(["thread", "close"].contains(way) || ends.contains { $0.contains("call=deliver sequence=") })
        #expect(try gateway.metric("gateway_plugin_restarts_total{receiver=\"odd\"}") == "\(ends.count)")
        #expect(try gateway.status(of: "odd").health == "ok")
        try gateway.endsWell()
    }

    @Test("A destroy that hangs or crashes is logged, and the gateway ends with 0", arguments: ["block in destroy", "crash in destroy"])
    func badEnd(what: String) throws {
        let folder = try TestFolder()
        let gateway = try gateway("misbehaving.c", #"{ "do": "\#(what)" }"#, in: folder)
        try gateway.send()
        try delivered(gateway, "odd", 1)
        let ended = try gateway.stop()
        #expect(ended.status == 0)
        let line = try #require(ended.err.split(separator: "\n").first { $0.contains("the plugin's process did not end normally") })
        let how = what == "block in destroy" ? "abort or destroy did not return within 1 s" : "it was ended by SIGKILL"
        for part in ["level=error", "receiver=odd", "libodd.so", how, "call=destroy"] { #expect(line.contains(part), "\(line)") }
    }

    @Test("The process ends with the gateway, however that ends", arguments: [SIGKILL, SIGTERM])
    func endsWithGateway(signal: Int32) throws {
        let folder = try TestFolder()
        let gateway = try gateway("crasher.c", #"{ "by": "nothing" }"#, in: folder)
        try gateway.send("report 1")
        let pid = try #require(try Self.report(gateway)["pid"].flatMap { Int32($0) })
        gateway.process.signal(signal)
        _ = try gateway.process.waitForStatus()
        let limit = Date(timeIntervalSinceNow: Project.patience)
        // The system reaps it a moment after it has ended.
        while kill(pid, 0) == 0, Self.state(of: pid) != "Z", Date() < limit { sched_yield() }
        #expect(kill(pid, 0) != 0 || Self.state(of: pid) == "Z")
    }

    private static func state(of pid: Int32) -> String? {
        (try? String(contentsOfFile: "/proc/\(pid)/stat", encoding: .utf8)).flatMap { $0.split(separator: ")").last?.prefix(2).dropFirst() }
            .map(String.init)
    }

    /// The words of the plugin's report, by name.
    private static func report(_ gateway: RunningGateway, _ version: String = "1.2.3") throws -> [String: String] {
        let line = try gateway.logLine("report \(version)", "receiver=odd")
        var words: [String: String] = [:]
        for word in line.split(separator: " ") {
            let parts = word.trimmingPrefix("\"").split(separator: "=").map(String.init)
            if parts.count == 2 { words[parts[0]] = parts[1].trimmingCharacters(in: ["\""]) }
        }
        return words
    }

    @Test("A process that ends before the instance is made is started again at the gateway's start, and not at a reload")
    func create() throws {
        let folder = try TestFolder()
        let gateway = try gateway("crasher.c", #"{ "by": "at once" }"#, in: folder)
        #expect(try gateway.send("ok 1") == "200")
        try delivered(gateway, "good", 1)
        #expect(try gateway.status(of: "odd").health == "failed")
        let line = try gateway.logLine("the plugin's process ended", "receiver=odd", "SIGABRT")
        #expect(line.contains("call=create"))
        _ = try folder.write("calm", "")
        try delivered(gateway, "odd", 1)
        #expect(try gateway.status(of: "odd").health == "ok")

        try FileManager.default.removeItem(atPath: folder.path("calm"))
        let config = try String(contentsOfFile: folder.path("gateway.json"), encoding: .utf8)
        _ = try folder.write("gateway.json", config.replacingOccurrences(of: "at once", with: "at once, again"))
        gateway.process.signal(SIGHUP)
        try gateway.logLine("its process ended while it was created", "SIGABRT")
        #expect(try gateway.send("ok 2") == "200")
        try delivered(gateway, "odd", 2)
        try gateway.endsWell()
    }

    @Test("A config that the plugin refuses is shown at its place, by check and run")
    func refused() throws {
        let folder = try TestFolder()
        let config = try folder.write(
            "gateway.json",
            RunningGateway.config([
                ("a", #"{ "plugin": "FileSink", "isolation": "process", "required_at_start": true, "config": { "directori": "x" } }"#)
            ]))
        for command in ["check", "run"] {
            let ended = try ChildProcess.run([try Project.built("gateway"), command, "--config", config])
            #expect(ended.status == 1 && (ended.out + ended.err).contains("receivers.a.config.directori: unknown"))
        }
    }

    // MARK: What the process may do

    @Test("The process has few descriptors, low priority, no way to new privileges, and the config's user", arguments: ["", "nobody"])
    func restrictions(user: String) throws {
        guard user.isEmpty || getuid() == 0 else { return }
        let folder = try TestFolder()
        for path in [folder.path, folder.path("..")] { chmod(path, 0o755) }
        let member = user.isEmpty ? "" : #", "user": "\#(user)""#
        let gateway = try gateway("crasher.c", #"{ "by": "nothing" }"#, #""process": { "files": 77\#(member) },"#, in: folder)
        try gateway.send("report 1")
        let report = try Self.report(gateway)
        #expect(report["parent"] == "\(gateway.process.id)" && report["privileges"] == "1" && report["files"] == "77")
        #expect(report["highest"].flatMap { Int($0) }.map { $0 <= 6 } == true)
        #expect(report["nice"].flatMap { Int($0) }.map { $0 >= 10 } == true)
        #expect((report["user"] == "\(getuid())") == user.isEmpty)
        try gateway.endsWell()
    }

    @Test("A process that a command waits for has the command's own priority")
    func priorityOfCheck() throws {
        let folder = try TestFolder()
        try CPlugin.build("crasher.c", as: folder.path("teller.so"))
        let config = try folder.write(
            "gateway.json",
            """
            { "receivers": { "a": { "plugin": "\(folder.path("teller.so"))", "isolation": "process", "config": { "by": "telling" } } },
              "receive_http": { "default": { "forward_to": ["a"] } } }
            """)
        let ended = try ChildProcess.run([try Project.built("gateway"), "check", "--config", config])
        #expect(ended.status == 0 && ended.out.contains("nice=\(getpriority(__priority_which_t(PRIO_PROCESS.rawValue), 0))"))
    }

    @Test("The bounds of a process are checked when the config is read")
    func bounds() throws {
        let cases = [
            (#""isolation": "none", "process": {}"#, "process: goes with isolation"), (#""isolation": "thread""#, "isolation: must be"),
            (#""isolation": "process", "process": { "files": 31 }"#, "process.files: must be a whole number, 32 to 65536"),
            (#""isolation": "process", "process": { "files": 32 }"#, nil),
            (#""isolation": "process", "process": { "memory": "16777215B" }"#, "process.memory: "),
            (#""isolation": "process", "process": { "memory": "16MiB" }"#, nil),
            (#""isolation": "process", "process": { "user": "no-such-user" }"#, "process.user: there is no user"),
            (#""isolation": "process", "process": { "cpu": 1 }"#, "process.cpu: unknown"),
        ]
        for (members, problem) in cases {
            let folder = try TestFolder()
            let config = try folder.write("gateway.json", RunningGateway.config([("a", #"{ "plugin": "StdoutSink", \#(members) }"#)]))
            let ended = try ChildProcess.run([try Project.built("gateway"), "check", "--config", config])
            #expect(
                ended.status == (problem == nil ? 0 : 1) && (ended.out + ended.err).contains(problem ?? ": ok"), "\(members): \(ended.out)")
        }
    }

    // MARK: What passes between the processes

    @Test("A profile of any size arrives unchanged", arguments: [1, 4095, 4096, 4097, 6 << 20])
    func bodies(size: Int) throws {
        let folder = try TestFolder()
        let gateway = try RunningGateway(
            [("odd", #"{ "plugin": "FileSink", "isolation": "process", "config": { "directory": "\#(folder.path("archive"))" } }"#)],
            in: folder)
        let body = String(repeating: "a", count: size)
        let path = try folder.write("body", body)
        for _ in 0..<3 { #expect(try gateway.send("@\(path)") == "200") }
        try delivered(gateway, "odd", 3)
        let files = TestFolder.files(below: folder.path("archive")).filter { !$0.hasSuffix(".json") }
        #expect(files.count == 3)
        for file in files {
            #expect(FileManager.default.contents(atPath: "\(folder.path("archive"))/\(file)") == Data(body.utf8))
        }
        try gateway.endsWell()
    }

    @Test("A reload takes the new content of a plugin's file")
    func reload() throws {
        let folder = try TestFolder()
        let gateway = try gateway("crasher.c", #"{ "by": "nothing" }"#, in: folder)
        try gateway.send("report 1")
        _ = try Self.report(gateway)
        try CPlugin.build("crasher.c", as: folder.path("new.so"), ["-DVERSION=\"2.0\""])
        #expect(rename(folder.path("new.so"), folder.path("libodd.so")) == 0)
        gateway.process.signal(SIGHUP)
        try gateway.logLine("config reloaded")
        try gateway.send("report 2")
        _ = try Self.report(gateway, "2.0")
        #expect(!gateway.log.contains { $0.contains("the plugin's process ended") })
        try gateway.endsWell()
    }
}
