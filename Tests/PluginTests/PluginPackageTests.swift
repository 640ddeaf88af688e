import Foundation
import Testing

@testable import TestSupport

/// Plugins in Swift as users have them, in packages of their own.
@Suite("Plugins in packages of their own")
struct PluginPackageTests {
    private static func library(_ name: String) throws -> String {
        let built = try PluginPackages.tagged.get().libraries + PluginPackages.example.get().libraries
        return try #require(built.first { $0.hasSuffix("/lib\(name).so") })
    }

    /// Runs a gateway with one receiver, `odd`.
    private static func gateway(
        _ name: String, _ config: String = "{}", members: String = "", environment: [String: String] = [:], in folder: TestFolder
    ) throws -> RunningGateway {
        let receiver = #"{ "plugin": "\#(try library(name))", \#(members) "config": \#(config) }"#
        return try RunningGateway([("odd", receiver)], settings: #""shutdown_timeout": "1s","#, in: folder, environment: environment)
    }

    @Test("The template of a new plugin, which depends on a tag, passes its own tests")
    func template() throws {
        let output = try PluginPackages.tagged.get().output
        #expect(output.contains("test.sh: the profile was delivered"))
        #expect(output.split(separator: "\n").count { $0.hasPrefix("pass ") } == 15, "\(output)")
    }

    @Test(
        "A plugin exports the entry alone and is hardened, by tag and by path",
        arguments: ["MySink", "OutsideSink", "Documented", "JournalSink"])
    func exports(name: String) throws {
        let symbols = try ChildProcess.run(["nm", "-D", "--extern-only", "--defined-only", Self.library(name)])
        #expect(symbols.out.split(separator: "\n").compactMap { $0.split(separator: " ").last } == ["gw_plugin_v1"])
        #expect(try ChildProcess.run(["readelf", "-W", "--dynamic", Self.library(name)]).out.contains("Flags: NOW"))
    }

    @Test(
        "A plugin keeps every rule: one that is async, that of the document, the example",
        arguments: ["OutsideSink", "Documented", "JournalSink"])
    func check(name: String) throws {
        let folder = try TestFolder()
        let config = name == "OutsideSink" ? [] : ["--config", #"{"path":"\#(folder.path("lines.txt"))"}"#]
        let ended = try ChildProcess.run([try Project.built("gateway"), "plugin", "check", Self.library(name)] + config)
        #expect(ended.status == 0, "\(ended.out)")
    }

    @Test("What an async delivery returns or throws is the outcome")
    func outcomes() throws {
        let gateway = try Self.gateway("OutsideSink", members: #""retry": { "min_backoff_period": "10ms" },"#, in: TestFolder())
        for deed in ["nothing", "throw", "later", "reject"] { try gateway.send(name: "app{do=\(deed)}") }
        try gateway.wait(forMetric: #"gateway_profiles_delivered_total{receiver="odd"}"#, toBe: "3")
        try gateway.wait(forMetric: #"gateway_profiles_dropped_total{receiver="odd",reason="rejected"}"#, toBe: "1")
        try gateway.wait(forMetric: #"gateway_retries_total{receiver="odd"}"#, toBe: "2")
        try gateway.logLine("not this one")
        try gateway.endsWell()
    }

    @Test("An abort cancels the tasks, and waits for none that ignores it")
    func abort() throws {
        let gateway = try Self.gateway("OutsideSink", in: TestFolder())
        try gateway.send(name: "app{do=sleep}")
        try gateway.send(name: "app{do=ignore}")
        for line in ["sleeps", "ignores"] { try gateway.logLine(line) }
        let ended = try gateway.stop()
        #expect(ended.status == 0 && ended.err.contains("msg=cancelled") && !ended.err.contains("did not end after abort"))
    }

    @Test("A task that ends after its instance is no breach, and has its profile until then")
    func late() throws {
        let folder = try TestFolder()
        // The profile of a task that outlives its instance stays in memory, because nobody is left to give it back to.
        let options = ProcessInfo.processInfo.environment["ASAN_OPTIONS"].map { ["ASAN_OPTIONS": "\($0):detect_leaks=0"] }
        // So long the old instance has time to close.
        let retry = #""retry": { "min_backoff_period": "5s" },"#
        let gateway = try Self.gateway("OutsideSink", #"{"second":false}"#, members: retry, environment: options ?? [:], in: folder)
        try gateway.send(name: "app{do=ignore}")
        try gateway.logLine("ignores")
        let config = try Project.text(of: folder.path("gateway.json"))
        try folder.write("gateway.json", config.replacingOccurrences(of: #""second":false"#, with: #""second":true"#))
        gateway.process.signal(SIGHUP)
        // The second instance gets the profile, lets the task of the first go on, and waits until the first is gone.
        try gateway.wait(forMetric: #"gateway_profiles_delivered_total{receiver="odd"}"#, toBe: "1")
        let status = try gateway.status(of: "odd")
        #expect(status.breaches == 0 && status.health == "ok", "\(status)")
        let ended = try gateway.stop()
        #expect(ended.status == 0 && !ended.err.contains("msg=\"late"))
    }

    @Test("The example writes what it gathers, when a batch is full, when it is old and at the end")
    func journal() throws {
        let folder = try TestFolder()
        let path = folder.path("journal.txt")
        let gateway = try Self.gateway("JournalSink", #"{"path":"\#(path)","batch":2,"max_wait":"1h"}"#, in: folder)
        for number in 0..<3 { try gateway.send(name: "app{number=\(number)}") }
        try gateway.wait(forMetric: #"gateway_profiles_delivered_total{receiver="odd"}"#, toBe: "2")
        try gateway.endsWell()
        let lines = try Project.text(of: path).split(separator: "\n")
        #expect(lines.count == 3)
        for number in 0..<3 { #expect(lines.contains { $0.contains("\"number\":\"\(number)\"") }) }

        let old = try Self.gateway("JournalSink", #"{"path":"\#(path)","max_wait":"10ms"}"#, in: folder)
        try old.send()
        try old.wait(forMetric: #"gateway_profiles_delivered_total{receiver="odd"}"#, toBe: "1")
        #expect(try old.stop().status == 0)
    }

    @Test("The example ends in time when its destination hangs")
    func hang() throws {
        let folder = try TestFolder()
        let path = folder.path("pipe")
        try #require(mkfifo(path, 0o600) == 0)
        let gateway = try Self.gateway("JournalSink", #"{"path":"\#(path)"}"#, in: folder)
        try gateway.send()
        _ = try gateway.process.errors.poll(for: "an open delivery") { try gateway.status(of: "odd").open_deliveries == 1 ? true : nil }
        let ended = try gateway.stop()
        #expect(ended.status == 0 && !ended.err.contains("did not end after abort"))
    }
}
