import Foundation
import Testing

@testable import TestSupport

/// The calls of a plugin's life, for plugins of both versions of the interface, in both isolations.
@Suite("The stages of a plugin's life")
struct StageTests {
    enum Isolation: String, CaseIterable { case none, process }

    private func gateway(
        _ config: String, _ isolation: Isolation, _ members: String = "", settings: String = "", old: Bool = false, in folder: TestFolder
    ) throws -> RunningGateway {
        // The first folder that is named is searched first.
        let flags = old ? ["-I", "\(Project.pluginSources)/v1.0"] : []
        let plugin = try CPlugin.build("stages.c", as: folder.path("libstages.so"), first: flags)
        return try RunningGateway(
            [("odd", #"{ "plugin": "\#(plugin)", "isolation": "\#(isolation)", \#(members) "config": \#(config) }"#)], settings: settings,
            in: folder)
    }

    private func delivered(_ gateway: RunningGateway, _ count: Int) throws {
        try gateway.wait(forMetric: "gateway_profiles_delivered_total{receiver=\"odd\"}", toBe: "\(count)")
    }

    private static func stages(_ log: String) -> [String] {
        log.split(separator: "\n").compactMap { line in
            line.range(of: "stage ").map { String(line[$0.upperBound...].prefix { $0.isLetter }) }
        }
    }

    @Test("A plugin gets create, start, its deliveries, drain, flush and destroy", arguments: Isolation.allCases)
    func order(isolation: Isolation) throws {
        let gateway = try gateway("{}", isolation, in: TestFolder())
        for _ in 0..<2 { try gateway.send() }
        try delivered(gateway, 2)
        let ended = try gateway.stop()
        #expect(ended.status == 0)
        #expect(Self.stages(ended.err) == ["create", "start", "deliver", "deliver", "drain", "flush", "destroy"])
    }

    @Test("A plugin of version 1.0 runs as it did", arguments: Isolation.allCases)
    func old(isolation: Isolation) throws {
        let gateway = try gateway("{}", isolation, old: true, in: TestFolder())
        try gateway.send()
        try delivered(gateway, 1)
        let ended = try gateway.stop()
        #expect(ended.status == 0 && Self.stages(ended.err) == ["create", "deliver", "flush", "destroy"])
    }

    @Test("A plugin of today runs with what version 1.0 knew of it")
    func new() throws {
        let folder = try TestFolder()
        let source = try folder.write(
            "both.c",
            """
            #include "v1.0/PluginABI.h"
            enum { PLUGIN = sizeof(gw_plugin), HOST = sizeof(gw_host), OUTCOME = sizeof(gw_outcome), PROFILE = sizeof(gw_profile) };
            _Static_assert(PLUGIN == 88 && HOST == 80 && OUTCOME == 56 && PROFILE == 192, "what the constants of today's header say");
            int main(void) { return 0; }

            """)
        let made = try ChildProcess.run(
            ["gcc", "-std=c11", "-Wall", "-Werror", "-I", Project.pluginSources, source, "-o", folder.path("both")])
        #expect(made.status == 0, "\(made.err)")
    }

    @Test("A start that fails makes the receiver failed and its queue wait, until it succeeds", arguments: Isolation.allCases)
    func late(isolation: Isolation) throws {
        let folder = try TestFolder()
        let gateway = try gateway(#"{"late":1}"#, isolation, in: folder)
        #expect(try gateway.send() == "200")
        try gateway.logLine("the plugin cannot work yet", "receiver=odd", "nobody is there", "started_again_in=1.0s")
        let status = try gateway.status(of: "odd")
        #expect(status.health == "failed" && status.reason == "nobody is there" && status.queue_profiles == 1)
        _ = try folder.write("go", "")
        try delivered(gateway, 1)
        #expect(try gateway.status(of: "odd").health == "ok")
        try gateway.endsWell()
    }

    @Test("A gateway whose plugin never starts ends in time, and keeps what waits", arguments: Isolation.allCases)
    func never(isolation: Isolation) throws {
        let folder = try TestFolder()
        let settings = #""shutdown_timeout": "1s", "data_dir": "\#(folder.path("data"))","#
        let gateway = try gateway(#"{"late":1}"#, isolation, settings: settings, in: folder)
        try gateway.send()
        try gateway.logLine("the plugin cannot work yet")
        let ended = try gateway.stop()
        #expect(ended.status == 0 && ended.err.contains("profiles stay in the spool"))
    }

    @Test("An isolated plugin whose start does not return is started again")
    func hang() throws {
        let folder = try TestFolder()
        let gateway = try gateway(#"{"hang":1}"#, .process, #""delivery_timeout": "\#(Project.isSanitized ? 20 : 5)s","#, in: folder)
        try gateway.send()
        try gateway.logLine("the plugin's process ended", "call=start")
        _ = try folder.write("go", "")
        try delivered(gateway, 1)
        try gateway.endsWell()
    }

    @Test(
        "What a batch holds back is sent when the end is near: at the end, and at a reload", arguments: Isolation.allCases, [true, false])
    func batch(isolation: Isolation, isReload: Bool) throws {
        let folder = try TestFolder()
        let gateway = try gateway(#"{"batch":10}"#, isolation, in: folder)
        for _ in 0..<3 { try gateway.send() }
        try gateway.logLines(3, "stage deliver")
        #expect(try gateway.status(of: "odd").open_deliveries == 3)
        if isReload {
            let config = try String(contentsOfFile: folder.path("gateway.json"), encoding: .utf8)
            _ = try folder.write("gateway.json", config.replacingOccurrences(of: "\"batch\":10", with: "\"batch\":1"))
            gateway.process.signal(SIGHUP)
            try delivered(gateway, 3)
            try gateway.send()
            try delivered(gateway, 4)
        }
        let ended = try gateway.stop()
        #expect(ended.status == 0 && !ended.err.contains("stage abort") && !ended.err.contains("lost"))
    }

    @Test("A plugin knows its receiver, the gateway and the limits, and has a folder when there is data_dir", arguments: Isolation.allCases)
    func facts(isolation: Isolation) throws {
        for hasData in [true, false] {
            let folder = try TestFolder()
            let gateway = try gateway(
                #"{"facts":1}"#, isolation, #""max_in_flight": 7, "delivery_timeout": "9s","#,
                settings: hasData ? #""data_dir": "\#(folder.path("data"))","# : "", in: folder)
            let directory = hasData ? folder.path("data/plugin/odd") : ""
            let version = try ChildProcess.run([try Project.built("gateway"), "version"]).out.split(separator: " ").last?
                .trimmingCharacters(in: .newlines)
            try gateway.logLine("facts receiver=odd version=\(version ?? "?") directory=\(directory) in_flight=7 timeout=9000000000")
            #expect(FileManager.default.fileExists(atPath: folder.path("data/plugin/odd/kept")) == hasData)
            try gateway.endsWell()
        }
    }

    @Test("Log, status and metrics tell what the plugin is", arguments: Isolation.allCases, [true, false])
    func identity(isolation: Isolation, isOld: Bool) throws {
        let folder = try TestFolder()
        let gateway = try gateway("{}", isolation, old: isOld, in: folder)
        let path = folder.path("libstages.so")
        let sum = try ChildProcess.run(["sha256sum", path]).out.split(separator: " ").first.map(String.init) ?? ""
        let interface = isOld ? "1.0" : "1.1"
        try gateway.logLine(
            "plugin loaded",
            "receiver=odd plugin=stages version=1.0.0 interface=\(interface) path=\(path) sha256=\(sum) isolation=\(isolation)")
        let status = try gateway.admin("/api/v1/status")
        for member in [
            "\"plugin_path\":\"\(path)\"", "\"plugin_interface\":\"\(interface)\"", "\"plugin_sha256\":\"\(sum)\"",
            "\"isolation\":\"\(isolation)\"", "\"restarts\":0",
        ] {
            #expect(status.contains(member), "\(member)")
        }
        let labels = [
            ("receiver", "odd"), ("plugin", "stages"), ("version", "1.0.0"), ("interface", interface), ("path", path), ("sha256", sum),
            ("isolation", "\(isolation)"),
        ]
        let info = labels.map { "\($0.0)=\"\($0.1)\"" }.joined(separator: ",")
        #expect(try gateway.metric("gateway_plugin_info{\(info)}") == "1")
        try gateway.endsWell()
    }

    @Test("check neither starts the plugin nor makes its folder")
    func check() throws {
        let folder = try TestFolder()
        let plugin = try CPlugin.build("stages.c", as: folder.path("libstages.so"))
        let config = try folder.write(
            "gateway.json",
            RunningGateway.config(
                [("odd", #"{ "plugin": "\#(plugin)", "config": {"facts":1,"hang":1} }"#)],
                settings: #""data_dir": "\#(folder.path("data"))","#))
        let ended = try ChildProcess.run([try Project.built("gateway"), "check", "--config", config])
        #expect(ended.status == 0 && !FileManager.default.fileExists(atPath: folder.path("data")), "\(ended)")
    }
}
