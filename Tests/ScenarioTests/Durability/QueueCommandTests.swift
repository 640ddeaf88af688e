import Foundation
import Glibc
import Testing

@testable import TestSupport

@Suite("gateway queue", .serialized)
struct QueueCommandTests {
    /// A retry clock so slow that no test sees the second attempt.
    private static let slowRetry = "\"retry\": { \"min_backoff_period\": \"10m\", \"max_backoff_period\": \"10m\" },"

    /// Starts a gateway whose "up" accepts nothing, and whose archive accepts everything.
    private static func backlog(_ scenario: Scenario, spool: String = "") throws -> GatewayProcess {
        let nobody = ReceiverEntry.writer("http://127.0.0.1:9", more: slowRetry + SpoolMembers.queue())
        return try GatewayProcess(
            scenario, receivers: ["archive": ReceiverEntry.archive(more: SpoolMembers.queue()), "up": nobody],
            more: SpoolMembers.members(spool))
    }

    /// Sends profiles, and waits until their attempts and the settled archive are on disk.
    private static func fill(_ gateway: GatewayProcess, _ scenario: Scenario, _ count: Int = 20) throws {
        try gateway.send(count)
        try gateway.drain("archive")
        try scenario.waitForQueues("attempts, and a settled archive") { queues in
            (queues.of("up")?.attempts ?? 0) > 0 && queues.of("archive")?.profiles == 0
        }
    }

    // MARK: list

    @Test("list agrees with the metrics, while the gateway runs and after it ended", arguments: [SIGKILL, SIGTERM])
    func list(signal: Int32) throws {
        try Scenario.run { scenario in
            let gateway = try Self.backlog(scenario)
            #expect(try scenario.queues().map(\.receiver) == ["archive", "up"])
            try Self.fill(gateway, scenario)
            let metrics = try gateway.metrics()
            for isRunning in [true, false] {
                let up = try #require(try scenario.queues().of("up"))
                #expect((up.profiles, up.bytes) == (metrics.queued("up"), metrics.queuedBytes("up")))
                #expect(up.configured == true && up.attempts >= 1 && up.oldest?.hasSuffix("Z") == true && up.age_seconds != nil)
                #expect(up.next_retry?.hasSuffix("Z") == true, "the retry is minutes away")
                #expect(try scenario.queues().of("archive")?.profiles == 0)
                let text = try scenario.queue("list")
                #expect(text.status == 0 && text.output.count == 3 && text.output[2].contains(" 20 "))
                if isRunning { gateway.process.signal(signal) }
                try gateway.process.waitForExit()
            }
        }
    }

    @Test("list marks a receiver that is no longer in the config, and marks none without a config")
    func stranger() throws {
        try Scenario.run { scenario in
            let gateway = try Self.backlog(scenario)
            try Self.fill(gateway, scenario, 3)
            try gateway.kill()
            try scenario.keepOnly("archive")
            let up = try #require(try scenario.queues().of("up"))
            #expect(up.profiles == 3 && up.configured == false)
            #expect(try scenario.queue("list").output.contains { $0.hasPrefix("up") && $0.hasSuffix("not in the config") })
            let direct = try scenario.queue("list", "--json", "--data-dir", "data", config: false)
            #expect(try ListedQueue.decode(direct.output).map(\.configured) == [nil])
        }
    }

    @Test("Commands find no damage and do not fail while segments come and go")
    func busy() throws {
        var seed = SeededRandom("QueueCommandTests.busy")
        try Scenario.run { scenario in
            let counter = try CountingUpstream(scenario)
            let gateway = try GatewayProcess(
                scenario, receivers: ["up": counter.entry(SpoolMembers.queue())], more: SpoolMembers.members("\"segment_bytes\": \"64KiB\"")
            )
            let load = Load(&seed, Load.Mix(sizes: [200, 2000, 30_000]))
            load.start(gateway, connections: 3)
            try load.wait(forAnswers: 50)
            for _ in 0..<(Project.isSanitized ? 3 : 15) {
                for command in ["list", "verify", "show"] {
                    let answer = try scenario.queue(command)
                    #expect(answer.status == 0, "\(command): \(answer.output) \(answer.errors)")
                    #expect(!answer.output.contains { $0.contains("damaged") }, "\(answer.output)")
                }
            }
            load.stop()
            try gateway.drain("up")
        }
    }

    // MARK: verify

    @Test("verify finds nothing in an intact spool, and reports each damage with its file and offset")
    func verify() throws {
        try Scenario.run { scenario in
            let gateway = try Self.backlog(scenario)
            try Self.fill(gateway, scenario)
            #expect(try scenario.queue("verify").status == 0)
            try gateway.kill()
            let summary = try scenario.queue("verify").output
            #expect(summary.count == 1 && summary[0].hasPrefix("20 records of ") && summary[0].hasSuffix(" in 1 segment: no damage"))
            #expect(try scenario.run("cp", "-a", scenario.path("data"), scenario.path("master")).status == 0)
            let cases: [(String, (inout Data) -> Int)] = [
                (".records", { data in Self.flip(&data, data.count / 2) }), (".index", { data in Self.flip(&data, data.count - 30) }),
                (".settled", { data in Self.flip(&data, data.count - 30) }), (".records", { data in Self.flip(&data, 30) }),
                (
                    ".records",
                    { data in
                        data += [1, 2, 3]; return data.count - 3
                    }
                ),
                (
                    ".records",
                    { data in
                        data.removeLast(); return data.count
                    }
                ),
            ]
            for (ending, damage) in cases {
                let (file, place) = try scenario.damage(ending, damage)
                let before = try scenario.spoolBytes()
                let found = try scenario.queue("verify", "--json")
                #expect(found.status == 1)
                let report = try VerifiedSpool.decode(found.output)
                #expect(report.damages.count == 1 && report.damages[0].file.hasSuffix(file), "\(ending) \(report)")
                let damaged = try #require(report.damages.first)
                #expect(damaged.offset <= place && place <= damaged.offset + max(1, damaged.size), "\(ending) \(place) \(report)")
                let text = try scenario.queue("verify")
                #expect(text.status == 1 && text.output.count == 2 && text.output[0].contains("\(file):\(damaged.offset): "))
                #expect(text.output[1].hasSuffix("1 damage"))
                #expect(try scenario.spoolBytes() == before, "nothing is written")
                try scenario.run("rm", "-rf", scenario.path("data"))
                try scenario.run("cp", "-a", scenario.path("master"), scenario.path("data"))
            }
            #expect(try gateway.again().stop() == 0)
            #expect(try scenario.queue("verify").status == 0)
        }
    }

    /// Changes one bit and returns its offset.
    private static func flip(_ data: inout Data, _ offset: Int) -> Int {
        data[offset] ^= 1
        return offset
    }

    // MARK: show

    @Test("show lists waiting profiles, and writes payloads byte for byte without overwriting a file")
    func show() throws {
        try Scenario.run { scenario in
            let gateway = try Self.backlog(scenario)
            let body = [UInt8](0...255) + [0, 10, 13]
            let connection = try RawConnection(gateway.port)
            let answer = try connection.post(
                "/ingest?name=app%7Benv=a%1bb%7D&from=1&until=2", bytes: body, headers: "X-Scope-OrgID: team-a\r\nUser-Agent: me\r\n")
            #expect(answer.status == 200)
            #expect(try gateway.push(PushSeries(samples: ["one": "first\0", "two": "second"])).status == 200)
            try scenario.waitForQueues("a settled archive") { $0.of("archive")?.profiles == 0 && $0.of("up")?.profiles == 2 }
            try gateway.kill()

            let lines = try scenario.queue("show", "--receiver", "up").output
            #expect(lines.count == 2)
            #expect(
                lines[0].contains("app{env=\"a\\u001bb\",service_name=\"app\"} ") && lines[0].contains(" 259 B 1 sample tenant=\"team-a\""))
            #expect(lines[1].contains("cpu{service_name=\"app\"} ") && lines[1].contains(" 12 B 2 samples push "))
            #expect(lines.allSatisfy { $0.contains(" for up") })
            let found = try scenario.shown()
            #expect(found.map(\.payload_bytes) == [259, 12])

            let first = "\(found[0].sequence)"
            let text = try scenario.queue("show", first, "--output", "payload")
            #expect(text.status == 0, "\(text.errors)")
            for part in [
                "env=\"a\\u001bb\"", "name=app%7Benv=a%1bb%7D&from=1&until=2", "user-agent: \"me\"", "archive: settled", "up: waits",
            ] {
                #expect(text.output.contains { $0.contains(part) }, "\(part): \(text.output)")
            }
            #expect([UInt8](try scenario.bytes(of: "payload")) == body)
            #expect(text.output.contains { $0.contains("sha256:") })
            let again = try scenario.queue("show", first, "--output", "payload")
            #expect(again.status == 1 && again.errors.contains { $0.contains("payload") })
            #expect([UInt8](try scenario.bytes(of: "payload")) == body)

            try scenario.write("mine", to: "push-1")
            #expect(try scenario.queue("show", "\(found[1].sequence)", "--output", "push").status == 1)
            #expect(!FileManager.default.fileExists(atPath: scenario.path("push-0")), "all of them or none")
            try FileManager.default.removeItem(atPath: scenario.path("push-1"))
            #expect(try scenario.queue("show", "\(found[1].sequence)", "--json", "--output", "push").status == 0)
            #expect(try scenario.bytes(of: "push-0") == Data("first\0".utf8))
            #expect(try scenario.bytes(of: "push-1") == Data("second".utf8))
        }
    }

    @Test("show lists the oldest profiles, as many as --limit says, of the chosen receiver")
    func limits() throws {
        try Scenario.run { scenario in
            let gateway = try Self.backlog(scenario)
            try Self.fill(gateway, scenario, 60)
            #expect(try scenario.queue("show").output.count == 50)
            #expect(try scenario.queue("show", "--limit", "0").output.count == 60)
            let found = try scenario.shown("--limit", "7")
            #expect(found.count == 7 && found.map(\.sequence) == found.map(\.sequence).sorted())
            #expect(try scenario.queue("show", "--receiver", "archive").output == [])
            #expect(try scenario.queue("show", "--json", "--receiver", "archive").output == ["[]"])
            #expect(try scenario.queue("show", "17").status == 1)
        }
    }

    @Test("show prints what is known of a damaged record")
    func showDamaged() throws {
        try Scenario.run { scenario in
            let gateway = try Self.backlog(scenario)
            try Self.fill(gateway, scenario, 2)
            try gateway.kill()
            _ = try scenario.damage(".records") { data in Self.flip(&data, data.count - 1) }
            let lines = try scenario.queue("show")
            #expect(lines.status == 0 && lines.output.count == 2 && lines.output[1].contains("damaged: its profile is damaged"))
            let sequence = try #require(try scenario.shown().last?.sequence)
            let one = try scenario.queue("show", "\(sequence)", "--output", "payload")
            #expect(one.status == 1 && one.output.contains { $0.contains("\(sequence)") })
            #expect(!FileManager.default.fileExists(atPath: scenario.path("payload")))
        }
    }

    // MARK: drop

    @Test("drop asks first, refuses while the gateway runs, and removes only the chosen profiles")
    func drop() throws {
        try Scenario.run { scenario in
            let gateway = try Self.backlog(scenario)
            try Self.fill(gateway, scenario)
            let running = try scenario.queue("drop", "--receiver", "up", "--all", "--yes")
            #expect(running.status == 1 && running.errors.contains { $0.contains("\(gateway.process.id)") })
            try gateway.kill()

            let unasked = try scenario.queue("drop", "--receiver", "up", "--all")
            #expect(unasked.status == 2 && unasked.errors.contains { $0.contains("--yes") })
            #expect(try scenario.answer("n", to: "queue drop --receiver up --all") == 1)
            #expect(try scenario.queues().of("up")?.profiles == 20)

            let waiting = try scenario.shown("--receiver", "up").map(\.sequence)
            let chosen = [waiting[1], waiting[2], waiting[10]].map { "\($0)" }
            #expect(try scenario.queue("drop", "--receiver", "up", "17", chosen[0], "--yes").status == 1, "17 does not wait")
            #expect(try scenario.queue("drop", "--receiver", "up", chosen[0], chosen[1], chosen[2], "--yes").status == 0)
            let left = waiting.filter { !chosen.contains("\($0)") }
            #expect(try scenario.shown("--receiver", "up").map(\.sequence) == left)
            let old = try scenario.queue("drop", "--receiver", "up", "--older-than", "1h", "--yes", "--json")
            #expect(old.output.first?.hasPrefix("{\"receiver\":\"up\",\"profiles\":0,") == true)
            #expect(try scenario.queue("verify").status == 0)

            let next = try gateway.again()
            #expect(try next.metrics().recovered("up") == 17)
            try next.checkAccounts()
            #expect(try next.stop() == 0)

            #expect(try scenario.answer("y", to: "queue drop --receiver up --older-than 1ms") == 0)
            #expect(try scenario.queues().of("up")?.profiles == 0)
            #expect(scenario.files(under: "data/spool") == [])
            #expect(try gateway.again().metrics().recovered("up") == 0)
        }
    }

    @Test(
        "Files that root's drop writes belong to the gateway's user",
        .enabled(if: geteuid() == 0, "only root can give files away"))
    func dropAsRoot() throws {
        try Scenario.run { scenario in
            let gateway = try Self.backlog(scenario)
            try Self.fill(gateway, scenario)
            try gateway.kill()
            #expect(try scenario.run("chown", "-R", "65534:65534", scenario.path("data")).status == 0)
            #expect(try scenario.run("chmod", "711", scenario.path(".")).status == 0)
            var files: [String] { (FileManager.default.enumerator(atPath: scenario.path("data"))?.allObjects as? [String] ?? []).sorted() }
            for file in files where file.hasSuffix(".settled") { try FileManager.default.removeItem(atPath: scenario.path("data/\(file)")) }
            let waiting = try scenario.shown("--receiver", "up").map { "\($0.sequence)" }
            let dropped = try scenario.queue("drop", "--receiver", "up", waiting[0], "--yes")
            // LeakSanitizer cannot inspect a process that has changed its user, and then fails.
            #expect(dropped.status == 0 || Project.isSanitized, "\(dropped.errors)")
            #expect(files.contains { $0.hasSuffix(".settled") })
            for file in files {
                let owner = try FileManager.default.attributesOfItem(atPath: scenario.path("data/\(file)"))[.ownerAccountID] as? Int
                #expect(owner == 65534, "\(file)")
            }
        }
    }

    @Test("drop removes the profiles of a receiver that is no longer in the config, and keeps those of others")
    func dropStranger() throws {
        try Scenario.run { scenario in
            let nobody = ReceiverEntry.writer("http://127.0.0.1:9", more: Self.slowRetry + SpoolMembers.queue())
            let gateway = try GatewayProcess(scenario, receivers: ["gone": nobody, "up": nobody], more: SpoolMembers.members())
            try gateway.send(5)
            try gateway.kill()
            try scenario.keepOnly("up")
            let dropped = try scenario.queue("drop", "--receiver", "gone", "--all", "--yes", "--json")
            #expect(dropped.status == 0 && dropped.output.first?.contains("\"profiles\":5,") == true)
            #expect(try scenario.queues().map(\.receiver) == ["up"])
            #expect(try scenario.queue("list", "--json", "--data-dir", "data", config: false).output.joined().contains("\"profiles\":5,"))
        }
    }
}
