import Foundation
import Testing

@testable import TestSupport

/// What a plugin must not do, in both isolations: how each is survived, counted and named. What ends the process is in
/// `CrashGuardTests` and `PluginProcessTests`.
@Suite("Sins of plugins")
struct SinTests {
    enum Isolation: String, CaseIterable { case none, process }

    struct Sin: CustomTestStringConvertible {
        let deed: String
        /// The kind of breach that is counted; nil for what breaks no rule that can be seen.
        var breach: String?
        /// Whether deliveries stay open or a call does not return, so that in the gateway's process the end is not clean.
        var isStuck = false
        var testDescription: String { deed }

        init(_ deed: String, _ breach: String? = nil, isStuck: Bool = false) {
            (self.deed, self.breach, self.isStuck) = (deed, breach, isStuck)
        }
    }

    static let sins = [
        Sin("take signals", "process_state"), Sin("move in create", "process_state"), Sin("mask in create", "process_state"),
        Sin("move in deliver"), Sin("begin failed"), Sin("finish twice", "unknown_token"), Sin("finish made-up tokens", "unknown_token"),
        Sin("finish elsewhere"), Sin("short outcome", "outcome"), Sin("long outcome"), Sin("status 0", "status"),
        Sin("status 99", "status"),
        Sin("no outcome", "outcome"), Sin("unreadable outcome", "outcome"), Sin("half an outcome", "outcome"), Sin("unreadable texts"),
        Sin("texts without bytes"), Sin("long texts"), Sin("log much"), Sin("health 99"), Sin("level 99"),
        Sin("never finish", isStuck: true), Sin("finish after all", isStuck: true), Sin("block in abort", isStuck: true),
        Sin("finish in abort", isStuck: true),
        Sin("linger in abort", isStuck: true), Sin("block until abort"), Sin("block without end", isStuck: true), Sin("retain"),
        Sin("use everything"),
        Sin("bad metrics", "metric"), Sin("metrics of others", "metric"), Sin("another help", "metric"),
        Sin("never finish flush", isStuck: true), Sin("finish flush twice"), Sin("linger in flush"), Sin("block in destroy", isStuck: true),
        Sin("count attempts"),
    ]

    /// Starts a gateway with a receiver `odd`, whose plugin sins, and one whose plugin does not, `good`.
    private func gateway(_ source: String, _ config: String, _ isolation: Isolation, settings: String, in folder: TestFolder) throws
        -> RunningGateway
    {
        let plugin = try CPlugin.build(source, as: folder.path("libodd.so"))
        let quiet = try CPlugin.build("misbehaving.c", as: folder.path("libgood.so"))
        let retry = #""retry": { "min_backoff_period": "10ms", "max_backoff_period": "20ms" }"#
        return try RunningGateway(
            [
                ("odd", #"{ "plugin": "\#(plugin)", "isolation": "\#(isolation)", \#(retry), "config": \#(config) }"#),
                ("good", #"{ "plugin": "\#(quiet)", "config": { "do": "nothing odd" } }"#),
            ],
            settings: settings, in: folder)
    }

    @Test(
        "No sin costs another receiver a profile; it is counted, and only a plugin that never ends keeps the gateway from a clean end",
        arguments: sins, Isolation.allCases)
    func survived(sin: Sin, isolation: Isolation) throws {
        // A sanitizer handles the fatal signals by which unreadable memory is found.
        if Project.isSanitized, ["unreadable outcome", "half an outcome", "unreadable texts"].contains(sin.deed) { return }
        let folder = try TestFolder()
        let gateway = try gateway(
            "misbehaving.c", #"{ "do": "\#(sin.deed)" }"#, isolation, settings: #""shutdown_timeout": "1s","#, in: folder)
        for number in 0..<10 { #expect(try gateway.send("ok \(number)") == "200") }
        try gateway.wait(forMetric: "gateway_profiles_delivered_total{receiver=\"good\"}", toBe: "10")
        #expect(try gateway.status(of: "good").health == "ok")
        if let breach = sin.breach {
            try gateway.logLine("plugin broke its contract", "receiver=odd", breach)
            let count = try gateway.metric("gateway_plugin_breaches_total{receiver=\"odd\",kind=\"\(breach)\"}")
            #expect(count.flatMap { Int($0) }.map { $0 > 0 } == true)
        }
        let ended = try gateway.stop()
        #expect((ended.status == 0) == (isolation == .process || !sin.isStuck), "\(ended.err)")
        #expect(!ended.err.contains("lost") || ended.err.contains("receiver=odd"))
    }
}
