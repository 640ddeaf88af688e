import Foundation
import Testing

@testable import TestSupport

/// What the interface has since version 1.1 beyond the calls of a plugin's life, in both isolations.
@Suite("Extensions of the plugin interface")
struct ExtensionTests {
    enum Isolation: String, CaseIterable { case none, process }

    private func gateway(_ config: String, _ isolation: Isolation = .none, settings: String = "", in folder: TestFolder) throws
        -> RunningGateway
    {
        let plugin = try CPlugin.build("extensions.c", as: folder.path("libextensions.so"))
        return try RunningGateway(
            [("odd", #"{ "plugin": "\#(plugin)", "isolation": "\#(isolation)", "config": \#(config) }"#)], settings: settings, in: folder)
    }

    /// Sends profiles in one piece, so that they come at once also on a busy machine.
    private func send(_ count: Int, to gateway: RunningGateway) throws {
        let connection = try RawConnection(UInt16(gateway.port))
        let request = "POST /ingest?name=checkout HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\n\r\nmain;work 1\n"
        connection.send(String(repeating: request, count: count))
        for _ in 0..<count { #expect(try connection.readResponse().status == 200) }
    }

    private func delivered(_ gateway: RunningGateway, _ count: Int) throws {
        try gateway.wait(forMetric: "gateway_profiles_delivered_total{receiver=\"odd\"}", toBe: "\(count)")
    }

    /// The exit status and the output of `gateway check` with a config of the plugin.
    private func check(_ config: String, in folder: TestFolder) throws -> ChildProcess.Ended {
        let plugin = try CPlugin.build("extensions.c", as: folder.path("libextensions.so"))
        let file = try folder.write(
            "gateway.json", RunningGateway.config([("odd", #"{ "plugin": "\#(plugin)", "config": \#(config) }"#)]))
        return try ChildProcess.run([try Project.built("gateway"), "check", "--config", file])
    }

    private static func quoted(_ text: String) throws -> String {
        String(decoding: try JSONEncoder().encode(text), as: UTF8.self)
    }

    // MARK: gw.json/1

    @Test("A plugin reads JSON with the gateway's reader", arguments: Isolation.allCases)
    func json(isolation: Isolation) throws {
        let text = #"{"a": [1, -2.5e3, true, null, "x\u00fc\"", {}], "": {"deep": [[]]}, "n": 12345678901234567890, "f": false}"#
        let gateway = try gateway(#"{"json": \#(try Self.quoted(text))}"#, isolation, in: TestFolder())
        let log = try gateway.logLine("json member of no object absent")
        #expect(!log.isEmpty)
        let ended = try gateway.stop()
        let seen = ended.err.split(separator: "\n").compactMap { line -> String? in
            guard let start = line.range(of: "json ") else { return nil }
            return line[start.lowerBound...].replacing("\\\"", with: "\"").split(separator: "\" receiver").first.map(String.init)
        }
        let expected = [
            "json 0 object name=<> text=<> number=0 count=4 span=13", "json 1 array name=<a> text=<> number=0 count=6 span=7",
            "json 2 number name=<> text=<1> number=1 count=0 span=1", "json 2 number name=<> text=<-2.5e3> number=-2500 count=0 span=1",
            "json 2 boolean name=<> text=<> number=1 count=0 span=1", "json 2 null name=<> text=<> number=0 count=0 span=1",
            "json 2 string name=<> text=<xü\"> number=0 count=0 span=1", "json 2 object name=<> text=<> number=0 count=0 span=1",
            "json 1 object name=<> text=<> number=0 count=1 span=3", "json 2 array name=<deep> text=<> number=0 count=1 span=2",
            "json 3 array name=<> text=<> number=0 count=0 span=1",
            "json 1 number name=<n> text=<12345678901234567890> number=1.2345678901234567e+19 count=0 span=1",
            "json 1 boolean name=<f> text=<> number=0 count=0 span=1",
        ]
        for line in expected { #expect(seen.contains { $0.hasPrefix(line) }, "\(line)\n\(seen.joined(separator: "\n"))") }
    }

    @Test(
        "The reader refuses what is not strict JSON, with the place",
        arguments: [
            ("", "line 1, column 1: "), ("{\"a\": 1,}", "line 1, column 9: "),
            ("[1]\n[2]", "line 2, column 1: unexpected text after the end"),
            ("{\"a\": 1,\n \"a\": 2}", "line 2, column 2: a: "), ("01", "line 1, column 2: "), ("// x\n1", "line 1, column 1: "),
            (String(repeating: "[", count: 65) + String(repeating: "]", count: 65), "nested deeper than 64"),
        ])
    func strict(text: String, problem: String) throws {
        let ended = try check(#"{"json": \#(try Self.quoted(text))}"#, in: TestFolder())
        #expect(ended.status == 1 && (ended.out + ended.err).contains(problem), "\(ended)")
    }

    @Test("The reader takes 64 levels")
    func deepest() throws {
        let text = String(repeating: "[", count: 64) + String(repeating: "]", count: 64)
        #expect(try check(#"{"json": "\#(text)"}"#, in: TestFolder()).status == 0)
    }

    @Test("A plugin refuses the first member that it does not know")
    func unknown() throws {
        let ended = try check(#"{"hold_ms": 1, "known": 1, "hold_s": 2, "x": 3}"#, in: TestFolder())
        #expect(ended.status == 1 && (ended.out + ended.err).contains("receivers.odd.config.hold_s: unknown"), "\(ended)")
        #expect(try check(#"{"hold_ms": 1, "known": 1}"#, in: TestFolder()).status == 0)
    }

    // MARK: gw.timer/1

    @Test("A timer rings once on the delivery thread; another one, set or taken back later, replaces it", arguments: Isolation.allCases)
    func timer(isolation: Isolation) throws {
        let gateway = try gateway(#"{"hold_ms": 5000}"#, isolation, in: TestFolder())
        try send(3, to: gateway)
        try gateway.logLine("timer rings for 3 on the thread of deliver")
        try delivered(gateway, 3)
        try gateway.logLines(3, "timer results 0 0 1 1")
        try gateway.send()
        try gateway.logLine("timer rings for 1 on the thread of deliver")
        let ended = try gateway.stop()
        #expect(ended.status == 0 && !ended.err.contains("taken back"))
        #expect(ended.err.split(separator: "\n").count { $0.contains("timer rings") } == 2)
    }

    @Test("Timers ring while the gateway ends, so that what they hold back is delivered", arguments: Isolation.allCases)
    func timerAtTheEnd(isolation: Isolation) throws {
        let gateway = try gateway(#"{"hold_ms": 1500}"#, isolation, in: TestFolder())
        try gateway.send()
        try gateway.logLine("timer results 0 0 1 1")
        let ended = try gateway.stop()
        #expect(ended.status == 0 && ended.err.contains("timer rings for 1") && !ended.err.contains("lost"), "\(ended.err)")
    }

    @Test("A timer that is set in create rings when the instance is at work, and not in check", arguments: Isolation.allCases)
    func earlyTimer(isolation: Isolation) throws {
        let folder = try TestFolder()
        let gateway = try gateway(#"{"early": 1}"#, isolation, in: folder)
        try gateway.send()
        try gateway.logLine("timer of create")
        try gateway.endsWell()
        let checked = try check(#"{"early": 1}"#, in: folder)
        #expect(checked.status == 0 && !(checked.out + checked.err).contains("timer of create"))
    }

    @Test("A crash in a timer's call is named, and costs the other receivers nothing when the plugin is isolated")
    func timerCrash() throws {
        let gateway = try gateway(#"{"hold_ms": 1, "crash": 1}"#, .process, in: TestFolder())
        try gateway.send()
        try gateway.logLine("the plugin's process ended", "receiver=odd", "timer")
        #expect(try gateway.metric("gateway_plugin_restarts_total{receiver=\"odd\"}") != "0")
        try gateway.endsWell()
    }

    // MARK: gw.loop/1

    @Test("A descriptor's call comes on the delivery thread, until it is not watched any more", arguments: Isolation.allCases)
    func loop(isolation: Isolation) throws {
        let gateway = try gateway(#"{"loop_ms": 5000}"#, isolation, in: TestFolder())
        try send(3, to: gateway)
        try gateway.logLine("loop refuses 1 9 22")
        try gateway.logLine("descriptor is ready for 3 with 1 on the thread of deliver")
        try gateway.logLine("loop ends 0 0")
        try gateway.logLine("after the calls on the thread of deliver")
        try delivered(gateway, 3)
        try gateway.send()
        try delivered(gateway, 4)
        let ended = try gateway.stop()
        #expect(ended.status == 0 && ended.err.split(separator: "\n").count { $0.contains("descriptor is ready") } == 2)
    }

    @Test("Descriptors are watched while the gateway ends", arguments: Isolation.allCases)
    func loopAtTheEnd(isolation: Isolation) throws {
        let gateway = try gateway(#"{"loop_ms": 1500}"#, isolation, in: TestFolder())
        try gateway.send()
        try gateway.logLine("loop refuses")
        let ended = try gateway.stop()
        #expect(ended.status == 0 && ended.err.contains("descriptor is ready for 1") && !ended.err.contains("lost"), "\(ended.err)")
    }

    @Test("A thread that waits for descriptors is woken for profiles and by abort", arguments: Isolation.allCases)
    func loopAndOthers(isolation: Isolation) throws {
        let gateway = try gateway(#"{"loop_ms": 600000}"#, isolation, settings: #""shutdown_timeout": "500ms","#, in: TestFolder())
        for count in 1...5 {
            try gateway.send()
            try gateway.logLines(count, "peer=<127.0.0.1>")
        }
        let ended = try gateway.stop()
        #expect(ended.status == 0, "\(ended.err)")
    }

    @Test("A crash in a descriptor's call is named")
    func loopCrash() throws {
        let gateway = try gateway(#"{"loop_ms": 1, "crash": 1}"#, .process, in: TestFolder())
        try gateway.send()
        try gateway.logLine("the plugin's process ended", "receiver=odd", "ready")
        try gateway.endsWell()
    }

    @Test("plugin check makes the calls of timers and descriptors", arguments: [#"{"hold_ms": 20}"#, #"{"loop_ms": 20}"#])
    func checkedCalls(config: String) throws {
        let lines = try ruleLines([], config)
        for rule in ["deliveries", "flush", "two-instances", "isolation", "leaks"] {
            #expect(lines[rule]?.result == "pass", "\(String(describing: lines[rule]))")
        }
    }

    // MARK: probe and config_schema

    private struct Line: Decodable { let rule, result, seen: String }

    private func ruleLines(_ flags: [String], _ config: String, timeout: String = "10s") throws -> [String: Line] {
        let folder = try TestFolder()
        let plugin = try CPlugin.build("extensions.c", as: folder.path("libextensions.so"), flags)
        let ended = try ChildProcess.run(
            [try Project.built("gateway"), "plugin", "check", plugin, "--json", "--timeout", timeout, "--config", config])
        let lines = try JSONDecoder().decode([Line].self, from: Data(ended.out.utf8))
        return Dictionary(uniqueKeysWithValues: lines.map { ($0.rule, $0) })
    }

    @Test(
        "plugin check tries probe",
        arguments: [(1, "pass", "1 delivered"), (2, "pass", "1 retry"), (0, "fail", "it was not finished in time")])
    func probe(status: Int, result: String, seen: String) throws {
        let line = try ruleLines([], #"{"probe": \#(status)}"#, timeout: status == 0 ? "5s" : "10s")["probe"]
        #expect(line?.result == result && line?.seen == seen)
    }

    @Test(
        "plugin check reads the schema",
        arguments: [
            (#"{\"type\": \"object\"}"#, "pass", "1 members"), (#"{\"a\": 1,}"#, "fail", "line 1, column 9"),
            ("[]", "fail", "it is an array"), ("", "not tried", "the plugin has no schema"),
        ])
    func schema(text: String, result: String, seen: String) throws {
        let line = try ruleLines(["-DSCHEMA=\"\(text)\""], "{}")["schema"]
        #expect(line?.result == result && line?.seen.hasPrefix(seen) == true, "\(String(describing: line))")
    }

    @Test("gateway plugins shows the schema")
    func shownSchema() throws {
        let folder = try TestFolder()
        _ = try check("{}", in: folder)
        let shown = try ChildProcess.run([try Project.built("gateway"), "plugins", "--json", "--config", folder.path("gateway.json")])
        #expect(shown.status == 0 && shown.out.contains(#""config_schema":{"type":"object"}"#), "\(shown)")
    }

    // MARK: The peer

    @Test("A plugin is told the sender's address, also after a restart", arguments: Isolation.allCases)
    func peer(isolation: Isolation) throws {
        let folder = try TestFolder()
        let settings = #""data_dir": "\#(folder.path("data"))","#
        let first = try gateway(#"{"hold_ms": 600000}"#, isolation, settings: settings, in: folder)
        let sender = try RawConnection(UInt16(first.port), from: 7)
        #expect(try sender.post("/ingest?name=a", "main 1\n").status == 200)
        try first.logLine("peer=<127.0.0.7> headers=0")
        first.process.signal(SIGKILL)
        _ = try first.process.waitForStatus()
        let listed = try ChildProcess.run([try Project.built("gateway"), "queue", "show", "--data-dir", folder.path("data")])
        let sequence = try #require(listed.out.matches(of: /\b[0-9]{15,}\b/).first.map { String($0.output) }, "\(listed)")
        let shown = try ChildProcess.run([try Project.built("gateway"), "queue", "show", sequence, "--data-dir", folder.path("data")])
        #expect(shown.out.contains("peer       127.0.0.7\n"), "\(shown)")
        let second = try gateway("{}", isolation, settings: settings, in: folder)
        try second.logLine("peer=<127.0.0.7> headers=0")
        try delivered(second, 1)
        #expect(try second.stop().status == 0)
    }
}
