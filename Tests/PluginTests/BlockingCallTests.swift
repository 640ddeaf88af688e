import Foundation
import Testing

@testable import TestSupport

/// Calls into a plugin that do not return may affect only its own receiver, at the start and at the end.
@Suite("Plugins whose calls do not return")
struct BlockingCallTests {
    /// Starts a gateway with a receiver `odd` that does `what`, and a well-behaved one, `good`.
    private func gateway(_ what: String, settings: String = #""shutdown_timeout": "1s","#) throws -> RunningGateway {
        let folder = try TestFolder()
        return try RunningGateway(
            Self.receivers(what, try CPlugin.build("misbehaving.c", as: folder.path("libodd.so"))), settings: settings, in: folder)
    }

    /// The receivers `odd`, which does `what`, and `good`.
    private static func receivers(_ what: String, _ plugin: String, odd: String = "") -> [(name: String, json: String)] {
        [
            ("odd", #"{ "plugin": "\#(plugin)", \#(odd) "config": { "do": "\#(what)" } }"#),
            ("good", #"{ "plugin": "\#(plugin)", "config": { "do": "nothing odd" } }"#),
        ]
    }

    /// Runs `gateway run` or `gateway check` with these receivers until it ends.
    private func run(_ command: String, _ receivers: [(name: String, json: String)], in folder: TestFolder) throws
        -> ChildProcess.Ended
    {
        let config = try folder.write("gateway.json", RunningGateway.config(receivers))
        return try ChildProcess.run([try Project.built("gateway"), command, "--config", config])
    }

    @Test("A create that does not return makes its receiver failed, and affects neither other receivers nor the end of the process")
    func create() throws {
        let gateway = try gateway("block in create")
        for _ in 0..<5 { #expect(try gateway.send() == "200") }
        try gateway.logLines(5, "msg=delivered receiver=good")
        let line = try gateway.logLine("plugin is overdue", "receiver=odd", "call=create")
        #expect(line.contains("libodd.so") && line.contains("for="))
        let status = try gateway.status(of: "odd")
        #expect(status.health == "failed" && status.reason == "create of the plugin has not returned")
        #expect(status.queue_profiles == 5)
        let ended = try gateway.stop()
        let (exit, log) = (ended.status, ended.err)
        #expect(exit == 1)
        #expect(log.contains("profiles lost at shutdown"))
        #expect(log.split(separator: "\n").contains { $0.contains("did not end after abort") && $0.contains("call=create") })
    }

    @Test("A receiver whose create returns late gets the profiles that waited for it")
    func lateCreate() throws {
        let gateway = try gateway("create slowly")
        #expect(try gateway.send() == "200")
        #expect(try gateway.status(of: "odd").health == "failed")
        _ = try gateway.folder.write("go", "")
        try gateway.logLine("create of the plugin has returned", "receiver=odd", "after=")
        try gateway.logLine("msg=delivered", "receiver=odd")
        #expect(try gateway.status(of: "odd").health == "ok")
        try gateway.endsWell()
    }

    @Test("A reload is refused while a create does not return, and the old config stays in use")
    func reload() throws {
        let gateway = try gateway("nothing odd")
        let plugin = gateway.folder.path("libodd.so")
        let config = gateway.folder.path("gateway.json")
        let before = try String(contentsOfFile: config, encoding: .utf8)
        try before.replacingOccurrences(
            of: "\"odd\": { \"plugin\": \"\(plugin)\",  \"config\": { \"do\": \"nothing odd\"",
            with: "\"odd\": { \"plugin\": \"\(plugin)\",  \"config\": { \"do\": \"block in create\""
        )
        .write(toFile: config, atomically: true, encoding: .utf8)
        gateway.process.signal(SIGHUP)
        let line = try gateway.logLine("config not reloaded", "receivers.odd", "create of the plugin has not returned after 3.0s")
        #expect(line.contains("level=error"))
        #expect(try gateway.send() == "200")
        try gateway.logLine("msg=delivered", "receiver=odd")
        #expect(try gateway.stop().status == 1, "the call that does not return is still there")
    }

    @Test("A create that does not return in a reload does not keep the gateway from ending, and it ends with 1")
    func reloadAtEnd() throws {
        let gateway = try gateway("nothing odd")
        let config = gateway.folder.path("gateway.json")
        let before = try String(contentsOfFile: config, encoding: .utf8)
        try before.replacing("nothing odd", with: "block in create", maxReplacements: 1)
            .write(toFile: config, atomically: true, encoding: .utf8)
        gateway.process.signal(SIGHUP)
        try gateway.process.waitForThreads(2, named: "rx-odd")
        let ended = try gateway.stop()
        #expect(ended.status == 1)
        // On a busy machine, the reload may be refused before the gateway ends.
        #expect(ended.err.contains("a reload did not end") || ended.err.contains("create of the plugin has not returned after"))
    }

    @Test("check reports a create that does not return at its receiver")
    func check() throws {
        let folder = try TestFolder()
        let plugin = try CPlugin.build("misbehaving.c", as: folder.path("libodd.so"))
        let ended = try run("check", Self.receivers("block in create", plugin), in: folder)
        let (status, out) = (ended.status, ended.out)
        #expect(status == 1)
        #expect(out.contains("receivers.odd: create of the plugin has not returned after 10.0s"))
    }

    @Test("An abort or destroy that does not return is logged, and the process ends", arguments: ["abort", "destroy"])
    func end(call: String) throws {
        let gateway = try gateway("block in \(call)")
        try gateway.send()
        try gateway.logLine("msg=delivered", "receiver=good")
        let ended = try gateway.stop()
        let (status, log) = (ended.status, ended.err)
        #expect(status == 1)
        let line = log.split(separator: "\n").first { $0.contains("did not end after abort") && $0.contains("receiver=odd") }
        #expect(line?.contains("call=\(call)") == true)
        #expect(log.split(separator: "\n").contains { $0.contains("destroy called") && $0.contains("receiver=good") })
    }

    @Test("A second signal ends the gateway without waiting for any plugin", arguments: ["block without end", "block in abort"])
    func secondSignal(what: String) throws {
        let gateway = try gateway(what, settings: #""shutdown_timeout": "1h","#)
        try gateway.send()
        try gateway.logLine("msg=delivered", "receiver=good")
        gateway.process.signal(SIGTERM)
        try gateway.logLine("no longer listening")
        #expect(try gateway.stop().status == 1)
    }

    // MARK: Plugins that start as failed

    @Test(
        "A plugin that starts as failed stops the gateway only with required_at_start",
        arguments: [false, true])
    func requiredAtStart(isRequired: Bool) throws {
        let folder = try TestFolder()
        let plugin = try CPlugin.build("misbehaving.c", as: folder.path("libodd.so"))
        let receivers = Self.receivers("begin failed", plugin, odd: #""required_at_start": \#(isRequired),"#)
        let check = try run("check", receivers, in: folder)
        #expect(check.status == 0)
        let isSaid = check.out.contains(
            "warning: receivers.odd: is failed from the start\(isRequired ? ", and it is required at the start" : ""): not today")
        #expect(isSaid, "\(check.out)")
        if isRequired {
            let ended = try run("run", receivers, in: folder)
            let (status, err) = (ended.status, ended.err)
            #expect(status == 1)
            #expect(err.contains("cannot start") && err.contains("receivers.odd: is required at the start, and failed: not today"))
        } else {
            let gateway = try RunningGateway(receivers, in: folder)
            #expect(try gateway.status(of: "odd").health == "failed")
            try gateway.endsWell()
        }
    }

    @Test("A create that does not return stops a gateway whose receiver has required_at_start")
    func requiredCreate() throws {
        let folder = try TestFolder()
        let plugin = try CPlugin.build("misbehaving.c", as: folder.path("libodd.so"))
        let receivers = Self.receivers("block in create", plugin, odd: #""required_at_start": true,"#)
        let ended = try run("run", receivers, in: folder)
        let (status, err) = (ended.status, ended.err)
        #expect(status == 1)
        #expect(err.contains("receivers.odd: create of the plugin has not returned after 3.0s"))
    }
}
