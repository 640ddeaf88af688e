import Foundation
import Testing

@testable import TestSupport

@Suite("Shares of file descriptors", .serialized)
struct DescriptorShareTests {
    /// Small segments that hold a few profiles, so that the spool opens files all the time.
    private static func spool(_ scenario: Scenario) -> String {
        "\"data_dir\": \"\(scenario.path("data"))\", \"spool\": { \"segment_bytes\": \"64KiB\" },"
    }

    /// Builds a plugin that takes every free descriptor on request, and returns a receiver of it with a memory queue.
    private static func hoarder(_ scenario: Scenario, more: String = "") throws -> String {
        let path = scenario.path("libhoarder.so")
        let made = try scenario.run(
            "gcc", "-std=c11", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-I", "\(Project.root)/Sources/PluginABI/include",
            "\(Project.servers)/hoarder.c", "-o", path)
        guard made.status == 0 else { throw NeverCame(what: "hoarder.so", seen: made.output) }
        return "\"plugin\": \"\(path)\", \"queue\": { \"storage\": \"memory\" }, \(more)"
    }

    private static let body = String(repeating: "main;work 1\n", count: 2500)

    @Test("More silent connections than descriptors close no sender, no file of the spool and not the admin listener")
    func silentConnections() throws {
        try Scenario.run { scenario in
            let gateway = try GatewayProcess(
                scenario, receivers: ["console": ReceiverEntry.console()], http: "\"server_read_timeout\": \"10m\",",
                more: Self.spool(scenario), descriptors: 200)
            try gateway.log.wait(for: "level=warn", "conn_limit cannot be held", "asked=16384", "descriptors=200")
            let sender = try RawConnection(gateway.port)
            // A connection that has sent a request does not count as silent.
            #expect(try sender.post("/ingest?name=a", "a 1").status == 200)
            var sent = 1
            for _ in 0..<3 {
                let silent = try (0..<250).map { _ in try RawConnection(gateway.port) }
                for _ in 0..<20 {
                    #expect(try sender.post("/ingest?name=a", Self.body).status == 200)
                    sent += 1
                }
                #expect(try gateway.page("/-/healthy").status == 200)
                #expect(try RawConnection(gateway.port).post("/ingest?name=a", "a 1").status == 200)
                sent += 1
                withExtendedLifetime(silent) {}
            }
            let metrics = try gateway.waitForMetrics("the deliveries") { $0.delivered("console") == sent }
            #expect(metrics.dropped("console") == 0)
            let limit = metrics["gateway_descriptors_limit{use=\"listeners\"}"]
            // Of those that find no descriptor, each closes another one, but for those that end before they are accepted.
            #expect(metrics["gateway_connections_closed_for_room_total{listener=\"default\"}"] >= 250 - limit)
            #expect(1..<200 ~= limit && metrics["gateway_descriptors{use=\"listeners\"}"] <= limit)
            #expect(metrics["process_open_fds"] < 200)
            #expect(!gateway.log.lines.contains { $0.contains("accepting pauses") })
        }
    }

    @Test("Silent connections to the admin listener block neither it nor the other listeners")
    func silentAdmin() throws {
        try Scenario.run { scenario in
            let gateway = try GatewayProcess(scenario, receivers: ["console": ReceiverEntry.console()], descriptors: 128)
            let silent = try (0..<200).map { _ in try RawConnection(gateway.adminPort) }
            #expect(try gateway.page("/-/healthy").status == 200)
            #expect(try RawConnection(gateway.port).post("/ingest?name=a", "a 1").status == 200)
            #expect(try gateway.metrics()["gateway_descriptors{use=\"admin\"}"] <= 4)
            withExtendedLifetime(silent) {}
        }
    }

    @Test("Beyond the share, open requests get 503, and further connections are closed")
    func openRequests() throws {
        try Scenario.run { scenario in
            let gateway = try GatewayProcess(
                scenario, receivers: ["console": ReceiverEntry.console()], http: "\"server_read_timeout\": \"1h\", \"min_body_rate\": 0,",
                descriptors: 128)
            let share = try gateway.metrics()["gateway_descriptors_limit{use=\"listeners\"}"]
            let told = share / 16
            let open = try (0..<(share - told)).map { _ in
                let connection = try RawConnection(gateway.port)
                connection.send("POST /ingest?name=a HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n")
                // The request is open from here on.
                #expect(try connection.readResponse(toHead: true).status == 100)
                return connection
            }
            try gateway.waitForMetrics("all of them") { $0.connections() == open.count }
            let refused = try RawConnection(gateway.port)
            let answer = try refused.readResponse()
            #expect(answer.status == 503 && answer.text.contains("descriptors"))
            #expect(answer.header("Retry-After") != nil)
            // These connections linger after their 503.
            let more = try (0..<told).map { _ in try RawConnection(gateway.port) }
            // The order in which the loops accept decides which one is closed; on a slow machine several may be.
            let answers = more.map { (try? $0.readResponse().status) ?? 0 }
            #expect(answers.contains(503) && Set(answers).isSubset(of: [0, 503]))
            // None is closed if the first one has lingered to its end meanwhile, which takes two seconds.
            #expect(Project.isSanitized || answers.count { $0 == 0 } <= 1)
            open[0].send("x")
            #expect(try open[0].readResponse().status == 200)
            // This connection is idle now.
            #expect(try RawConnection(gateway.port).post("/ingest?name=a", "a 1").status == 200)
            #expect(try open[0].readToEnd() == "")
        }
    }

    @Test("A new connection closes the oldest idle one, also in another event loop", arguments: [4, 9])
    func severalLoops(limit: Int) throws {
        try Scenario.run { scenario in
            let listener = GatewayProcess.listener(["console"], http: "\"conn_limit\": \(limit), \"server_read_timeout\": \"1h\",")
            let gateway = try GatewayProcess(
                scenario,
                GatewayProcess.config(listeners: listener, receivers: ["console": ReceiverEntry.console()], more: "\"loops\": 4,"))
            // These connect at once, so that every loop gets some.
            var kept = try (0..<limit).map { _ in try RawConnection(gateway.port) }
            for connection in kept { #expect(try connection.post("/ingest?name=a", "a 1").status == 200) }
            for _ in 0..<50 {
                let next = try RawConnection(gateway.port)
                #expect(try next.post("/ingest?name=a", "a 1").status == 200)
                // Each loop has its own clock, so the oldest connection is not known exactly.
                let ended = kept.indices.filter { kept[$0].hasInput }
                try #require(ended.count == 1, "one for one")
                #expect(try kept.remove(at: ended[0]).readToEnd() == "")
                kept.append(next)
            }
            #expect(try gateway.metrics().connections() == limit)
            for connection in kept { connection.send("POST /ingest?na") }
            // Bytes that arrived but were not read yet make a request open too.
            for _ in 0..<4 { #expect(try RawConnection(gateway.port).readResponse().status == 503) }
            withExtendedLifetime(kept) {}
            try gateway.waitForMetrics("the deliveries") { $0.delivered("console") == limit + 50 }
            #expect(try gateway.stop() == 0)
        }
    }

    @Test("When a plugin takes every descriptor, senders wait or get 503, and the spool neither drops nor fails")
    func hoard() throws {
        try Scenario.run { scenario in
            let receivers = ["console": ReceiverEntry.console(), "hoarder": try Self.hoarder(scenario)]
            let listeners = GatewayProcess.listener(["console"]) + GatewayProcess.listener(["hoarder"], name: "hoard")
            let gateway = try GatewayProcess(
                scenario, GatewayProcess.config(listeners: listeners, receivers: receivers, more: Self.spool(scenario)), descriptors: 200)
            let (sender, master) = (try RawConnection(gateway.port), try RawConnection(gateway.ports["hoard"] ?? 0))
            // Both connections are accepted, and the spool has no segment open yet.
            #expect(try sender.post("/nowhere").status == 404)
            _ = try gateway.metrics()
            #expect(try master.post("/ingest?name=hoard", "x").status == 200)
            try gateway.log.wait(for: "hoards")
            for _ in 0..<3 {
                let answer = try sender.post("/ingest?name=a", Self.body)
                #expect(answer.status == 503 && answer.text.contains("no free file descriptor"), "\(answer)")
            }
            let waiting = try (0..<4).map { _ in try RawConnection(gateway.port) }
            try gateway.log.wait(for: "accepting pauses")
            try gateway.log.wait(for: "level=warn", "the spool waits for a free descriptor")
            let metrics = try gateway.metrics()
            #expect(metrics.health("console") == 0 && metrics.dropped("console") == 0)
            #expect(metrics["gateway_spool_write_errors_total"] == 0)

            #expect(try master.post("/ingest?name=release", "x").status == 200)
            try gateway.log.wait(for: "releases")
            for connection in waiting { #expect(try connection.post("/ingest?name=a", Self.body).status == 200) }
            #expect(try sender.post("/ingest?name=a", Self.body).status == 200)
            try gateway.log.wait(for: "accepting goes on")
            try gateway.log.wait(for: "the spool has descriptors again")
            try gateway.waitForMetrics("the deliveries") { $0.delivered("console") == 5 && $0.accepted("console") == 5 }
            #expect(gateway.log.lines.count { $0.contains("the spool waits for") } == 1, "it is said once")
            #expect(!gateway.log.lines.contains { $0.contains("cannot store") })
            #expect(try gateway.stop() == 0)
        }
    }

    @Test("Each plugin instance is told its share of descriptors, and a new share after a reload")
    func shares() throws {
        try Scenario.run { scenario in
            let hoarder = try Self.hoarder(scenario)
            let all = ["a": hoarder, "b": hoarder, "c": hoarder]
            let gateway = try GatewayProcess(scenario, receivers: all, descriptors: 256)
            func share(of receiver: String, after count: Int) throws -> Int {
                #expect(try RawConnection(gateway.port).post("/ingest?name=share", "x").status == 200)
                return try gateway.log.wait(for: "a share") { lines in
                    let said = lines.filter { $0.contains("msg=\"share ") && $0.contains("receiver=\(receiver)") }.dropFirst(count)
                    return said.first.flatMap { $0.split(separator: "share ").last?.prefix { $0.isNumber } }.flatMap { Int($0) }
                }
            }
            let whole = try gateway.metrics()["gateway_descriptors_limit{use=\"receivers\"}"]
            #expect(try share(of: "a", after: 0) == whole / 3)
            try gateway.reload(receivers: ["a": hoarder], scenario)
            try gateway.log.wait(for: "receiver removed", "receiver=b")
            try gateway.log.wait(for: "receiver removed", "receiver=c")
            let alone = try gateway.metrics()["gateway_descriptors_limit{use=\"receivers\"}"]
            #expect(try share(of: "a", after: 1) == alone)
            #expect(alone > whole / 3)
            #expect(!gateway.log.lines.contains { $0.contains("knows what is not there") })
        }
    }
}
