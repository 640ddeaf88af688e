import Foundation
import Testing

@testable import TestSupport

/// Plugins that break the contract, or use rare parts of it, in a real gateway.
@Suite("Plugins that misbehave")
struct MisbehaviourTests {
    /// Starts a gateway with a receiver `odd` that does `what`, and a well-behaved one, `good`.
    private func gateway(_ what: String, receiver: String = "", settings: String = "") throws -> RunningGateway {
        let folder = try TestFolder()
        let odd = try CPlugin.build("misbehaving.c", as: folder.path("libodd.so"))
        return try RunningGateway(
            [
                ("odd", #"{ "plugin": "\#(odd)", \#(receiver) "config": { "do": "\#(what)" } }"#),
                ("good", #"{ "plugin": "\#(odd)", "config": { "do": "nothing odd" } }"#),
            ],
            settings: settings, in: folder)
    }

    /// How many profiles a receiver has delivered, according to `/metrics`.
    private func delivered(_ gateway: RunningGateway, _ receiver: String) throws -> String? {
        try gateway.metric("gateway_profiles_delivered_total{receiver=\"\(receiver)\"}")
    }

    private let complaint = "plugin broke its contract"

    /// How many breaches of a kind are counted for the receiver `odd`.
    private func breaches(_ gateway: RunningGateway, _ kind: String) throws -> String? {
        try gateway.metric("gateway_plugin_breaches_total{receiver=\"odd\",kind=\"\(kind)\"}")
    }

    @Test("A breach is counted by its kind, and makes the receiver degraded until it is long ago")
    func counted() throws {
        let gateway = try gateway("finish twice")
        #expect(try breaches(gateway, "unknown_token") == "0")
        try gateway.send()
        try gateway.logLine(complaint, "receiver=odd", "kind=unknown_token", "count=1")
        #expect(try breaches(gateway, "unknown_token") == "1")
        #expect(try breaches(gateway, "outcome") == "0")
        let status = try gateway.status(of: "odd")
        #expect(status.health == "degraded" && status.reason.contains("broke its contract"))
        #expect(status.breaches == 1 && status.last_breach.contains("finished twice"))
        #expect(try gateway.status(of: "good").health == "ok")
        try gateway.endsWell()
    }

    @Test("An outcome that is NULL is reported, and the profile is retried")
    func noOutcome() throws {
        let gateway = try gateway("no outcome", receiver: #""retry": { "min_backoff_period": "10ms", "max_backoff_period": "20ms" },"#)
        try gateway.send()
        try gateway.logLine(complaint, "receiver=odd", "kind=outcome", "NULL")
        try gateway.endsWell()
        #expect(!gateway.log.contains { $0.contains("lost") })
    }

    @Test(
        "An outcome that cannot be read, or not wholly, is reported, and the profile is retried",
        .disabled(if: Project.isSanitized, "a sanitizer handles fatal signals itself"),
        arguments: ["unreadable outcome", "half an outcome"])
    func unreadableOutcome(deed: String) throws {
        let gateway = try gateway(deed, receiver: #""retry": { "min_backoff_period": "10ms", "max_backoff_period": "20ms" },"#)
        try gateway.send()
        try gateway.logLine(complaint, "receiver=odd", "kind=outcome", "cannot be read")
        try gateway.wait(forMetric: "gateway_profiles_delivered_total{receiver=\"odd\"}", toBe: "1")
        try gateway.endsWell()
    }

    @Test("A text that cannot be read is empty", .disabled(if: Project.isSanitized, "a sanitizer handles fatal signals itself"))
    func unreadableTexts() throws {
        let gateway = try gateway("unreadable texts")
        try gateway.send()
        try gateway.logLine("profile dropped", "receiver=odd", "reason=rejected", "error=\"\"")
        try gateway.logLine(complaint, "receiver=odd", "kind=metric", "has labels that cannot be read")
        try gateway.endsWell()
    }

    @Test("A text of NULL is empty, whatever its count, and so is one of an impossible count")
    func textsWithoutBytes() throws {
        let gateway = try gateway("texts without bytes")
        try gateway.send()
        try gateway.logLine("profile dropped", "receiver=odd", "reason=rejected", "error=\"\"")
        #expect(try gateway.status(of: "odd").health == "degraded")
        try gateway.endsWell()
    }

    @Test("A plugin's text is cut at 4 KiB")
    func longTexts() throws {
        let gateway = try gateway("long texts")
        try gateway.send()
        let line = try gateway.logLine("profile dropped", "receiver=odd")
        #expect(line.contains(String(repeating: "a", count: 4096)) && !line.contains(String(repeating: "a", count: 4097)))
        try gateway.endsWell()
    }

    @Test("A plugin that logs without end loses lines, which are counted, and the others' lines stay")
    func logsMuch() throws {
        let gateway = try gateway("log much")
        try gateway.send()
        try gateway.wait(forMetric: "gateway_profiles_delivered_total{receiver=\"odd\"}", toBe: "1")
        let ended = try gateway.stop()
        let lines = ended.err.split(separator: "\n").filter { $0.contains("again and again") }
        #expect(200..<1000 ~= lines.count)
        #expect(ended.err.contains("receiver=good"))
    }

    @Test("A working directory or umask that create changes is put back and reported", arguments: ["move in create", "mask in create"])
    func processState(what: String) throws {
        let gateway = try gateway(what)
        try gateway.logLine(complaint, "kind=process_state", what == "move in create" ? "directory to /" : "umask to 0")
        #expect(try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/\(gateway.process.id)/cwd") != "/")
        #expect(try !Project.text(of: "/proc/\(gateway.process.id)/status").contains("Umask:\t0000"))
        try gateway.endsWell()
    }

    @Test("A working directory or umask that deliver changes moves no other receiver's archive")
    func movesInDeliver() throws {
        let folder = try TestFolder()
        let odd = try CPlugin.build("misbehaving.c", as: folder.path("libodd.so"))
        let gateway = try RunningGateway(
            [
                ("odd", #"{ "plugin": "\#(odd)", "config": { "do": "move in deliver" } }"#),
                ("archive", #"{ "plugin": "FileSink", "config": { "directory": "./archive" } }"#),
            ], in: folder)
        for count in 1...3 {
            try gateway.send()
            for name in ["odd", "archive"] {
                try gateway.wait(forMetric: "gateway_profiles_delivered_total{receiver=\"\(name)\"}", toBe: "\(count)")
            }
        }
        #expect(TestFolder.files(below: folder.path("archive")).filter { $0.hasSuffix(".json") }.count == 3)
        try gateway.endsWell()
    }

    @Test("A metric that does not begin with the plugin's name is refused and named")
    func metricsOfOthers() throws {
        let gateway = try gateway("metrics of others")
        try gateway.send()
        try gateway.logLine(complaint, "kind=metric", "other_total", "does not begin with test_")
        try gateway.wait(forMetric: "gateway_plugin_breaches_total{receiver=\"odd\",kind=\"metric\"}", toBe: "3")
        let page = try gateway.admin("/metrics")
        for name in ["other_total", "gateway_profiles_total", "testing"] { #expect(!page.contains(name)) }
        try gateway.endsWell()
    }

    @Test("A metric that is declared again with another help text keeps the first one, and that is named")
    func anotherHelp() throws {
        let gateway = try gateway("another help")
        try gateway.send()
        try gateway.logLine(complaint, "kind=metric", "test_help_total was declared before with another help text")
        #expect(try gateway.admin("/metrics").contains("# HELP test_help_total one\n"))
        try gateway.endsWell()
    }

    @Test("An operation that is finished after it was taken back is reported, and its profile is delivered by the next instance")
    func finishesLate() throws {
        let gateway = try gateway("finish after all", settings: #""shutdown_timeout": "100ms","#)
        try gateway.send()
        while try gateway.status(of: "odd").open_deliveries == 0 {}
        let config = try String(contentsOfFile: gateway.folder.path("gateway.json"), encoding: .utf8)
        _ = try gateway.folder.write("gateway.json", config.replacingOccurrences(of: "finish after all", with: "nothing odd"))
        gateway.process.signal(SIGHUP)
        try gateway.logLine("plugin did not end after abort", "receiver=odd")
        try gateway.wait(forMetric: "gateway_profiles_delivered_total{receiver=\"odd\"}", toBe: "1")
        _ = try gateway.folder.write("go", "")
        try gateway.logLine(complaint, "receiver=odd", "kind=late_finish", "taken back")
        #expect(try gateway.metric("gateway_profiles_delivered_total{receiver=\"odd\"}") == "1")
        // The instance that was given up keeps its memory.
        #expect(try gateway.stop().status == 1)
    }

    @Test("A well-behaved plugin gets its calls in order")
    func life() throws {
        let gateway = try gateway("nothing odd")
        try gateway.send()
        let ended = try gateway.stop()
        let (status, log) = (ended.status, ended.err)
        #expect(status == 0)
        let calls = log.split(separator: "\n").filter { $0.contains("called") && $0.contains("receiver=odd") }
        #expect(calls.count == 2)
        #expect(calls.first?.contains("flush called") == true)
        #expect(calls.last?.contains("destroy called") == true)
        #expect(!log.contains(complaint))
    }

    @Test("SIGPIPE and SIGXFSZ stay ignored although a plugin changes them")
    func signals() throws {
        let gateway = try gateway("take signals")
        try gateway.send()
        try gateway.logLine(complaint, "kind=process_state", "create changed the handling of SIGPIPE, SIGXFSZ")
        #expect(try Self.ignored(by: gateway).isSuperset(of: [SIGPIPE, SIGXFSZ]))
        try gateway.endsWell()
    }

    /// The signals that the gateway's process ignores.
    private static func ignored(by gateway: RunningGateway) throws -> Set<Int32> {
        let status = try Project.text(of: "/proc/\(gateway.process.id)/status")
        let line = try #require(status.split(separator: "\n").first { $0.hasPrefix("SigIgn:") })
        let bits = try #require(UInt64(line.split(separator: "\t")[1], radix: 16))
        return Set((1...Int32(64)).filter { bits & 1 << UInt64($0 - 1) != 0 })
    }

    @Test("SIGPIPE stays ignored although a plugin changes it while it is loaded, and its create is not blamed")
    func signalsAtLoad() throws {
        let folder = try TestFolder()
        let odd = try CPlugin.build("misbehaving.c", as: folder.path("libodd.so"), ["-DTAKE_SIGNALS_AT_LOAD"])
        let gateway = try RunningGateway([("odd", #"{ "plugin": "\#(odd)", "config": { "do": "nothing odd" } }"#)], in: folder)
        try gateway.send()
        try gateway.logLine("loading a plugin broke the contract", "libodd.so", "it changed the handling of SIGPIPE")
        #expect(try Self.ignored(by: gateway).isSuperset(of: [SIGPIPE]))
        #expect(try gateway.metric("gateway_plugin_breaches_total{receiver=\"odd\",kind=\"process_state\"}") == "0")
        try gateway.endsWell()
    }

    @Test("No plugin is blamed for what another one has changed after it was created")
    func signalsInDeliver() throws {
        let folder = try TestFolder()
        let odd = try CPlugin.build("misbehaving.c", as: folder.path("libodd.so"))
        func entry(_ deed: String) -> String { #"{ "plugin": "\#(odd)", "config": { "do": "\#(deed)" } }"# }
        let gateway = try RunningGateway([("odd", entry("take signals in deliver"))], in: folder)
        try gateway.send()
        try gateway.wait(forMetric: "gateway_profiles_delivered_total{receiver=\"odd\"}", toBe: "1")
        let config = try String(contentsOfFile: folder.path("gateway.json"), encoding: .utf8)
        _ = try folder.write("gateway.json", config.replacingOccurrences(of: "take signals in deliver", with: "nothing odd"))
        gateway.process.signal(SIGHUP)
        try gateway.logLine("a plugin broke the contract after it was created", "it changed the handling of SIGPIPE")
        try gateway.logLine("config reloaded")
        #expect(try Self.ignored(by: gateway).contains(SIGPIPE))
        #expect(try gateway.metric("gateway_plugin_breaches_total{receiver=\"odd\",kind=\"process_state\"}") == "0")
        try gateway.endsWell()
    }

    @Test("No plugin is blamed for what another one changes when their create calls run at once")
    func createsAtOnce() throws {
        let folder = try TestFolder()
        let odd = try CPlugin.build("misbehaving.c", as: folder.path("libodd.so"))
        let gateway = try RunningGateway(
            [
                ("odd", #"{ "plugin": "\#(odd)", "config": { "do": "take signals and wait" } }"#),
                ("good", #"{ "plugin": "\#(odd)", "config": { "do": "create beside" } }"#),
            ], in: folder)
        // Whichever began first: the other one waits for it only for a while, and is loaded or created beside it.
        try gateway.logLine("one of several plugins, which started at once", "the handling of SIGPIPE")
        _ = try folder.write("go", "")
        try gateway.send()
        for name in ["odd", "good"] {
            try gateway.wait(forMetric: "gateway_profiles_delivered_total{receiver=\"\(name)\"}", toBe: "1")
            #expect(try gateway.metric("gateway_plugin_breaches_total{receiver=\"\(name)\",kind=\"process_state\"}") == "0")
        }
        try gateway.endsWell()
    }

    // MARK: Finishing

    @Test("The second finish of a delivery is reported and ignored")
    func finishesTwice() throws {
        let gateway = try gateway("finish twice")
        try gateway.send()
        try gateway.logLine(complaint, "receiver=odd", "finished twice")
        #expect(try delivered(gateway, "odd") == "1")
        #expect(try gateway.metric(#"gateway_profiles_dropped_total{receiver="odd",reason="rejected"}"#) == "0")
        try gateway.endsWell()
    }

    @Test("The second finish of a flush is reported and ignored")
    func finishesFlushTwice() throws {
        let gateway = try gateway("finish flush twice")
        try gateway.send()
        let ended = try gateway.stop()
        let (status, log) = (ended.status, ended.err)
        #expect(status == 0)
        #expect(log.contains(complaint))
    }

    @Test("Tokens that a plugin made up are ignored")
    func madeUpTokens() throws {
        let gateway = try gateway("finish made-up tokens")
        try gateway.send()
        try gateway.wait(forMetric: "gateway_plugin_breaches_total{receiver=\"odd\",kind=\"unknown_token\"}", toBe: "3")
        let ended = try gateway.stop()
        let (status, log) = (ended.status, ended.err)
        #expect(status == 0)
        // One line a minute stands for all breaches of a kind.
        #expect(log.split(separator: "\n").filter { $0.contains(complaint) && $0.contains("receiver=odd") }.count == 1)
        #expect(!log.contains("made up"))
        #expect(!log.contains("profile dropped"))
    }

    @Test("A delivery may be finished by another thread before deliver returns")
    func finishesElsewhere() throws {
        let gateway = try gateway("finish elsewhere")
        for _ in 0..<20 { #expect(try gateway.send() == "200") }
        let ended = try gateway.stop()
        let (status, log) = (ended.status, ended.err)
        #expect(status == 0)
        #expect(log.split(separator: "\n").filter { $0.contains("finished before deliver returns") }.count == 20)
        #expect(!log.contains(complaint))
    }

    @Test("An outcome shorter than that of version 1.0 is reported, and the profile is retried")
    func shortOutcome() throws {
        let gateway = try gateway("short outcome", receiver: #""retry": { "min_backoff_period": "10ms", "max_backoff_period": "20ms" },"#)
        try gateway.send()
        let line = try gateway.logLine(complaint, "receiver=odd")
        #expect(line.contains("outcome"))
        let ended = try gateway.stop()
        let (status, log) = (ended.status, ended.err)
        #expect(status == 0)
        #expect(!log.contains("dropped"))
        #expect(log.split(separator: "\n").filter { $0.contains(complaint) }.count == 1)
    }

    @Test("A longer outcome of a later version is accepted")
    func longOutcome() throws {
        let gateway = try gateway("long outcome")
        try gateway.send()
        let ended = try gateway.stop()
        let (status, log) = (ended.status, ended.err)
        #expect(status == 0)
        #expect(!log.contains(complaint))
        #expect(!log.contains("lost"))
    }

    @Test("A missing or unknown status is reported and counts as rejected", arguments: ["status 0", "status 99"])
    func unknownStatus(what: String) throws {
        let gateway = try gateway(what)
        try gateway.send()
        try gateway.logLine(complaint, "receiver=odd", "kind=status", what)
        let line = try gateway.logLine("profile dropped", "receiver=odd", "reason=rejected")
        #expect(line.contains(what == "status 0" ? "a forgotten status" : "a later status"))
        #expect(try gateway.metric(#"gateway_profiles_dropped_total{receiver="odd",reason="rejected"}"#) == "1")
        try gateway.endsWell()
    }

    @Test("A retry has its attempt number and the progress of the previous attempt")
    func progress() throws {
        let gateway = try gateway("count attempts", receiver: #""retry": { "min_backoff_period": "10ms", "max_backoff_period": "20ms" },"#)
        try gateway.send()
        let ended = try gateway.stop()
        let (status, log) = (ended.status, ended.err)
        #expect(status == 0)
        let attempts = log.split(separator: "\n").filter { $0.contains("attempt ") }
        #expect(attempts.count == 3)
        for (line, expected) in zip(attempts, ["attempt 1 progress 0", "attempt 2 progress 5", "attempt 3 progress 10"]) {
            #expect(line.contains(expected))
        }
    }

    // MARK: Health, log and metrics

    @Test("An unknown health counts as failed")
    func unknownHealth() throws {
        let gateway = try gateway("health 99")
        try gateway.send()
        try gateway.logLine("receiver=odd", "failed", "a later health")
        let status = try gateway.status(of: "odd")
        #expect(status.health == "failed")
        #expect(status.reason == "a later health")
        #expect(try gateway.metric(#"gateway_receiver_health{receiver="odd"}"#) == "2")
    }

    @Test("An unknown log level counts as error")
    func unknownLevel() throws {
        let gateway = try gateway("level 99")
        try gateway.send()
        #expect(try gateway.logLine("a later level").contains("level=error"))
    }

    @Test("Every function of the host does what the header documents")
    func everything() throws {
        let gateway = try gateway("use everything")
        try gateway.send()
        let line = try gateway.logLine("ids same=")
        #expect(line.contains("ids same=1 other=1 zero=0 extension=NULL"))
        for level in ["debug", "info", "warning", "error"] {
            #expect(try gateway.logLine("a line of \(level)").contains("level=\(level) "))
        }
        let escaped = try gateway.logLine("two", "lines, ")
        #expect(!escaped.utf8.contains { $0 < 0x20 })
        let status = try gateway.status(of: "odd")
        #expect(status.health == "degraded")
        #expect(status.reason == "half of it")
        #expect(status.plugin == "test 1.0.0")
        let page = try gateway.admin("/metrics").split(separator: "\n").map(String.init)
        #expect(page.contains(#"test_seen_total{receiver="odd",shard="a\"b\\c\nd"} 5"#))
        #expect(page.contains(#"test_seen_total{receiver="odd"} 0"#))
        #expect(page.contains(#"test_level{receiver="odd"} -7"#))
        #expect(page.contains(#"test_wait_seconds_bucket{receiver="odd",le="0.01"} 0"#))
        #expect(page.contains(#"test_wait_seconds_bucket{receiver="odd",le="0.025"} 1"#))
        #expect(page.contains(#"test_wait_seconds_count{receiver="odd"} 1"#))
        #expect(page.contains("# TYPE test_wait_seconds histogram"))
        #expect(page.filter { $0 == "# TYPE test_seen_total counter" }.count == 1)
    }

    @Test("A metric with an invalid name, label or kind gets ID 0 and is logged")
    func badMetrics() throws {
        let gateway = try gateway("bad metrics")
        try gateway.send()
        try gateway.logLine("bad ids 0 0 0 0")
        #expect(gateway.log.filter { $0.contains(complaint) && $0.contains("kind=metric") }.count == 1)
        #expect(try breaches(gateway, "metric") == "4")
        let page = try gateway.admin("/metrics")
        for name in ["bad name", "test_bad_label", "test_bad_kind"] { #expect(!page.contains(name)) }
    }

    // MARK: Retained profiles

    @Test("A retained profile stays unchanged after its delivery has ended")
    func retains() throws {
        let gateway = try gateway("retain")
        for number in 0..<20 {
            try gateway.send("body number \(number)", name: "service\(number)")
            if number > 0 { try gateway.logLine("kept body number \(number - 1) of service\(number - 1)") }
        }
        let ended = try gateway.stop()
        let (status, log) = (ended.status, ended.err)
        #expect(status == 0)
        #expect(log.contains("kept body number 19 of service19"))
    }

    // MARK: Calls that do not return

    @Test("A plugin that never finishes is aborted and logged, and the exit status is 1")
    func neverFinishes() throws {
        let gateway = try gateway("never finish", settings: #""shutdown_timeout": "1s","#)
        try gateway.send()
        let ended = try gateway.stop()
        let (status, log) = (ended.status, ended.err)
        #expect(status == 1)
        let lines = log.split(separator: "\n")
        #expect(lines.contains { $0.contains("abort called") && $0.contains("receiver=odd") })
        #expect(
            lines.contains {
                $0.contains("level=error") && $0.contains("after abort") && $0.contains("receiver=odd") && $0.contains("libodd.so")
            })
        // Its memory is kept, because the plugin may still use it, and the other receiver ends normally.
        #expect(!lines.contains { $0.contains("destroy called") && $0.contains("receiver=odd") })
        #expect(lines.contains { $0.contains("destroy called") && $0.contains("receiver=good") })
    }

    @Test("A plugin that never finishes its flush is aborted and logged, and the exit status is 1")
    func neverFinishesFlush() throws {
        let gateway = try gateway("never finish flush", settings: #""shutdown_timeout": "1s","#)
        try gateway.send()
        let ended = try gateway.stop()
        let (status, log) = (ended.status, ended.err)
        #expect(status == 1)
        #expect(log.contains("abort called"))
        #expect(log.contains("libodd.so"))
    }

    @Test("A plugin that finishes its deliveries in abort lets the gateway exit with 0")
    func finishesInAbort() throws {
        let gateway = try gateway("finish in abort", settings: #""shutdown_timeout": "1s","#)
        try gateway.send()
        let ended = try gateway.stop()
        let (status, log) = (ended.status, ended.err)
        #expect(status == 0)
        let calls = log.split(separator: "\n").filter { $0.contains("called") && $0.contains("receiver=odd") }
        #expect(calls.first?.contains("abort called") == true)
        #expect(calls.last?.contains("destroy called") == true)
        #expect(log.contains("profiles lost at shutdown"))
    }

    @Test("A plugin that is told to abort while it gets a profile is told again after that", arguments: ["none", "process"])
    func keepsAfterAbort(isolation: String) throws {
        let gateway = try gateway(
            "keep after abort", receiver: #""isolation": "\#(isolation)","#, settings: #""shutdown_timeout": "1s","#)
        for _ in 0..<3 { try gateway.send() }
        let ended = try gateway.stop()
        let (status, log) = (ended.status, ended.err)
        #expect(status == 0, "\(log)")
        let lines = log.split(separator: "\n").filter { $0.contains("receiver=odd") }
        let calls = lines.compactMap { line in ["abort called", "destroy called"].first { line.contains($0) } }
        #expect(calls == ["abort called", "abort called", "destroy called"])
    }

    @Test("A plugin is destroyed only after its abort has returned", arguments: ["none", "process"])
    func lingersInAbort(isolation: String) throws {
        let gateway = try gateway(
            "linger in abort", receiver: #""isolation": "\#(isolation)","#, settings: #""shutdown_timeout": "1s","#)
        try gateway.send()
        let ended = try gateway.stop()
        let (status, log) = (ended.status, ended.err)
        #expect(status == 0)
        let lines = log.split(separator: "\n").filter { $0.contains("receiver=odd") }
        let calls = lines.compactMap { line in ["abort called", "abort returns", "destroy called"].first { line.contains($0) } }
        #expect(calls == ["abort called", "abort returns", "destroy called"])
    }

    @Test("A plugin that blocks in deliver affects only its own receiver, which is failed and logged")
    func blocks() throws {
        let gateway = try gateway(
            "block until abort", receiver: #""delivery_timeout": "200ms","#, settings: #""shutdown_timeout": "1s","#)
        for _ in 0..<10 { #expect(try gateway.send() == "200") }
        try gateway.logLines(10, "msg=delivered receiver=good")
        let line = try gateway.logLine("level=error", "overdue", "receiver=odd")
        #expect(line.contains("libodd.so"))
        let status = try gateway.status(of: "odd")
        #expect(status.health == "failed")
        #expect(status.reason.contains("delivery_timeout"))
        #expect(status.queue_profiles == 10)
        #expect(try gateway.status(of: "good").health == "ok")
        let ended = try gateway.stop()
        let (exit, log) = (ended.status, ended.err)
        #expect(exit == 0)
        #expect(log.contains("abort called"))
    }

    @Test("A plugin that never returns from deliver does not keep the gateway from ending")
    func blocksWithoutEnd() throws {
        let gateway = try gateway("block without end", settings: #""shutdown_timeout": "1s","#)
        try gateway.send()
        let ended = try gateway.stop()
        let (status, log) = (ended.status, ended.err)
        #expect(status == 1)
        #expect(log.split(separator: "\n").contains { $0.contains("after abort") && $0.contains("libodd.so") })
    }

    @Test("A flush that returns shortly after its finish does not delay the end")
    func lingers() throws {
        let limit = Date(timeIntervalSinceNow: Project.patience)
        while true {
            let gateway = try gateway("linger in flush")
            try gateway.send()
            let start = ContinuousClock.now
            try gateway.endsWell()
            // The plugin takes 50 ms, and the gateway would always wait a second for a call that does not return. On a busy machine
            // an end may take as long by itself, and then the attempt is repeated.
            if ContinuousClock.now - start < .milliseconds(900) { return }
            try #require(Date() < limit, "no end was quicker than the wait for a call that does not return")
        }
    }
}
