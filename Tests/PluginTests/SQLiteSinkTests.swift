import Foundation
import Testing

@testable import TestSupport

/// The example plugin of `examples/plugins/sqlite-c`, in a real gateway; its database is read with the program sqlite3.
@Suite("The example plugin that stores profiles in SQLite")
struct SQLiteSinkTests {
    enum Isolation: String, CaseIterable { case none, process }

    private static let source = "\(Project.root)/examples/plugins/sqlite-c/sqlite_sink.c"
    /// A batch that neither count nor time ends.
    private static let endless = #""batch": 1000, "wait_ms": 60000"#

    private static func build(in folder: TestFolder) throws -> String {
        let path = folder.path("sqlite.so")
        let flags = ["-D_GNU_SOURCE", "-Wshadow", "-fvisibility=hidden", "-pthread", source, "-o", path, "-lsqlite3"]
        let made = try ChildProcess.run(CPlugin.compiler + flags)
        guard made.status == 0 else { throw Obstacle(made.err) }
        return path
    }

    /// Starts a gateway whose receiver `db` stores into `profiles.db` of the folder, or into `path`.
    private static func gateway(
        _ members: String, _ isolation: Isolation = .none, data: String? = nil, path: String? = nil, in folder: TestFolder
    ) throws -> RunningGateway {
        let config = #"{ "path": "\#(path ?? folder.path("profiles.db"))", \#(members) }"#
        let retry = #""retry": { "min_backoff_period": "10ms", "max_backoff_period": "50ms" }"#
        let receiver = #"{ "plugin": "\#(try build(in: folder))", "isolation": "\#(isolation)", \#(retry), "config": \#(config) }"#
        return try RunningGateway([("db", receiver)], settings: data.map { #""data_dir": "\#($0)","# } ?? "", in: folder)
    }

    private static func delivered(_ gateway: RunningGateway, _ count: Int) throws {
        try gateway.wait(forMetric: "gateway_profiles_delivered_total{receiver=\"db\"}", toBe: "\(count)")
    }

    private static func send(_ bodies: [String], to gateway: RunningGateway) throws {
        for body in bodies { #expect(try gateway.send(body) == "200") }
    }

    /// The first value that a query gives.
    private static func query(_ sql: String, _ folder: TestFolder, path: String? = nil) throws -> String {
        let ended = try ChildProcess.run(["sqlite3", "-cmd", ".timeout 10000", path ?? folder.path("profiles.db"), sql])
        guard ended.status == 0 else { throw Obstacle("sqlite3: \(ended.err)") }
        return ended.out.trimmingCharacters(in: .newlines)
    }

    /// Waits until something holds, and asks the gateway or the database for it each time.
    private static func wait(for what: String, _ test: () throws -> Bool) throws {
        let limit = Date(timeIntervalSinceNow: Project.patience)
        while try !test() {
            guard Date() < limit else { throw NeverCame(what: what, seen: []) }
            sched_yield()
        }
    }

    private static func waitForOpen(_ count: Int, _ gateway: RunningGateway) throws {
        try wait(for: "\(count) open deliveries") { try gateway.status(of: "db").open_deliveries == count }
    }

    // MARK: Batches

    @Test("A batch is committed when it is full, and not before", arguments: Isolation.allCases)
    func count(isolation: Isolation) throws {
        let folder = try TestFolder()
        let gateway = try Self.gateway(#""batch": 3, "wait_ms": 60000"#, isolation, in: folder)
        try Self.send(["one 1", "two 1"], to: gateway)
        try Self.waitForOpen(2, gateway)
        #expect(try Self.query("SELECT count(*) FROM profiles", folder) == "0")
        try Self.send(["three 1"], to: gateway)
        try Self.delivered(gateway, 3)
        #expect(try Self.query("SELECT group_concat(bytes, ',') FROM samples ORDER BY sequence", folder) == "one 1,two 1,three 1")
        #expect(try gateway.status(of: "db").health == "ok")
        try gateway.endsWell()
    }

    @Test("A batch is committed when its first profile is old", arguments: Isolation.allCases)
    func time(isolation: Isolation) throws {
        let folder = try TestFolder()
        let gateway = try Self.gateway(#""batch": 1000, "wait_ms": 20"#, isolation, in: folder)
        for number in 1...3 {
            try Self.send(["main \(number)"], to: gateway)
            try Self.delivered(gateway, number)
        }
        #expect(try Self.query("SELECT count(*) FROM profiles", folder) == "3")
        try gateway.endsWell()
    }

    @Test("A batch is committed when the end is near", arguments: Isolation.allCases)
    func drain(isolation: Isolation) throws {
        let folder = try TestFolder()
        let gateway = try Self.gateway(Self.endless, isolation, in: folder)
        try Self.send(["one 1", "two 1"], to: gateway)
        try Self.waitForOpen(2, gateway)
        try gateway.endsWell()
        #expect(try Self.query("SELECT count(*) FROM samples", folder) == "2")
    }

    @Test("A profile is stored with all that is its")
    func content() throws {
        let folder = try TestFolder()
        let gateway = try Self.gateway(#""batch": 1"#, in: folder)
        #expect(try gateway.send("main;work 1\n", name: "tea{env=it's ☕}", headers: ["X-Scope-OrgID: one"]) == "200")
        try Self.delivered(gateway, 1)
        let mine = "JOIN profiles USING (sequence) WHERE tenant = 'one'"
        #expect(try Self.query("SELECT value FROM labels \(mine) AND name = 'env'", folder) == "it's ☕")
        #expect(try Self.query("SELECT count(*) FROM labels \(mine) AND name = 'service_name' AND value = 'tea'", folder) == "1")
        #expect(try Self.query("SELECT hex(bytes) FROM samples \(mine)", folder) == "6D61696E3B776F726B20310A")
        let left = "SELECT (SELECT count(*) FROM labels) + (SELECT count(*) FROM samples)"
        #expect(try Self.query("PRAGMA foreign_keys = ON; DELETE FROM profiles; \(left)", folder) == "0")
        try gateway.endsWell()
    }

    // MARK: Failures

    @Test("Killed gateways lose no profile and store none twice")
    func kills() throws {
        let folder = try TestFolder()
        var all: [String] = []
        for round in 0..<4 {
            let gateway = try Self.gateway(#""batch": 4, "wait_ms": 20"#, data: folder.path("data"), in: folder)
            let bodies = (0..<10).map { "round\(round);profile\($0) 1" }
            try Self.send(bodies, to: gateway)
            all += bodies
            gateway.process.signal(SIGKILL)
            _ = try gateway.process.waitForStatus()
        }
        let gateway = try Self.gateway(#""batch": 4, "wait_ms": 20"#, data: folder.path("data"), in: folder)
        try Self.wait(for: "all profiles") { try Self.query("SELECT count(*) FROM samples", folder) == "\(all.count)" }
        try gateway.endsWell()
        let stored = try Self.query("SELECT bytes FROM samples", folder).split(separator: "\n").map(String.init)
        #expect(stored.sorted() == all.sorted())
    }

    @Test("A profile that comes again after its commit is stored once")
    func duplicate() throws {
        let folder = try TestFolder()
        let held = try Self.gateway(Self.endless, data: folder.path("data"), in: folder)
        try Self.send(["main 1"], to: held)
        try Self.waitForOpen(1, held)
        held.process.signal(SIGKILL)
        _ = try held.process.waitForStatus()
        // The copy is a gateway that was killed between the commit and the outcome.
        #expect(try ChildProcess.run(["cp", "-a", folder.path("data"), folder.path("copy")]).status == 0)
        for data in ["data", "copy"] {
            let gateway = try Self.gateway(#""batch": 1"#, data: folder.path(data), in: folder)
            try Self.delivered(gateway, 1)
            try gateway.endsWell()
            #expect(try Self.query("SELECT count(*) FROM profiles JOIN samples USING (sequence)", folder) == "1")
        }
    }

    @Test("A database that another program has locked makes the receiver degraded, until it is free")
    func busy() throws {
        let folder = try TestFolder()
        let gateway = try Self.gateway(#""batch": 1"#, in: folder)
        try Self.send(["one 1"], to: gateway)
        try Self.delivered(gateway, 1)
        let other = try ChildProcess(["sqlite3", "-batch", folder.path("profiles.db")])
        defer { other.end() }
        other.write("BEGIN IMMEDIATE; SELECT 'locked';")
        _ = try other.output.wait(for: "locked")
        try Self.send(["two 1"], to: gateway)
        try Self.wait(for: "a degraded receiver") { try gateway.status(of: "db").health == "degraded" }
        #expect(try gateway.status(of: "db").reason.contains("database is locked"))
        other.write("ROLLBACK;")
        try Self.delivered(gateway, 2)
        #expect(try gateway.status(of: "db").health == "ok")
        #expect(try Self.query("SELECT count(*) FROM profiles", folder) == "2")
        try gateway.endsWell()
    }

    @Test("On a full disk the profiles wait, and are stored when there is room", .enabled(if: SmallDisk.isPossible, SmallDisk.reason))
    func full() throws {
        try Scenario.run { scenario in
            let (disk, folder) = (try SmallDisk(scenario, mebibytes: 16), try TestFolder())
            let path = "\(disk.path)/profiles.db"
            let gateway = try Self.gateway(#""batch": 2, "wait_ms": 20"#, path: path, in: folder)
            try Self.send(["one 1"], to: gateway)
            try Self.delivered(gateway, 1)
            try disk.setBallast(mebibytes: 15)
            let body = try folder.write("body", String(repeating: "main;work 1\n", count: 150_000))
            try Self.send(["@\(body)"], to: gateway)
            try Self.wait(for: "a failed receiver") { try gateway.status(of: "db").health == "failed" }
            #expect(try gateway.status(of: "db").reason.contains("full"))
            try disk.setBallast(mebibytes: 0)
            try Self.wait(for: "the profile") { try Self.query("SELECT count(*) FROM samples", folder, path: path) == "2" }
            try Self.wait(for: "a receiver that is well") { try gateway.status(of: "db").health == "ok" }
            try gateway.endsWell()
        }
    }

    @Test("A folder that is not there makes the receiver failed, until it is there")
    func away() throws {
        let folder = try TestFolder()
        let path = folder.path("later/profiles.db")
        let gateway = try Self.gateway(#""batch": 1"#, path: path, in: folder)
        try gateway.logLine("the plugin cannot work yet", "receiver=db", "unable to open database file")
        try Self.send(["one 1"], to: gateway)
        _ = try folder.folder("later")
        try Self.delivered(gateway, 1)
        #expect(try Self.query("SELECT count(*) FROM profiles", folder, path: path) == "1")
        try gateway.endsWell()
    }

    // MARK: Rules

    @Test("The plugin keeps every rule of the interface, also in a process of its own")
    func rules() throws {
        let folder = try TestFolder()
        let config = #"{ "path": "\#(folder.path("profiles.db"))", "batch": 10, "wait_ms": 50 }"#
        let check = [try Project.built("gateway"), "plugin", "check", try Self.build(in: folder), "--config", config]
        let ended = try ChildProcess.run(check)
        let lines = ended.out.split(separator: "\n")
        #expect(ended.status == 0 && lines.allSatisfy { $0.hasPrefix("pass") || $0.contains("the plugin has no probe") }, "\(ended.out)")
        #expect(lines.contains { $0.contains("isolation") })
    }

    @Test(
        "A config is refused with the names of its wrong members",
        arguments: [
            (#"{}"#, ["path: must be a string that names a file"]),
            (#"{ "path": 1 }"#, ["path: must be a string that names a file"]),
            (#"{ "path": "" }"#, ["path: must be a string that names a file"]),
            (#"{ "path": "x", "colour": 1 }"#, ["colour: unknown"]),
            (#"{ "path": "x", "batch": 0 }"#, ["batch: must be a whole number, 1 to 1000"]),
            (#"{ "path": "x", "batch": 1.5 }"#, ["batch: must be a whole number, 1 to 1000"]),
            (#"{ "batch": 1001, "wait_ms": "1" }"#, ["path: must be", "batch: must be", "wait_ms: must be a whole number, 1 to 60000"]),
        ])
    func refusals(config: String, problems: [String]) throws {
        let folder = try TestFolder()
        let receiver = #"{ "plugin": "\#(try Self.build(in: folder))", "config": \#(config) }"#
        let file = try folder.write("gateway.json", RunningGateway.config([("db", receiver)]))
        let ended = try ChildProcess.run([try Project.built("gateway"), "check", "--config", file])
        #expect(ended.status == 1)
        for problem in problems { #expect((ended.out + ended.err).contains("receivers.db.config.\(problem)"), "\(ended.out)") }
        #expect(TestFolder.files(below: folder.path).filter { $0.hasSuffix(".db") } == [])
    }

    @Test("The example is short, and its README too")
    func length() throws {
        #expect(try Project.text(of: Self.source).split(separator: "\n", omittingEmptySubsequences: false).count <= 280)
        let readme = "\(Project.root)/examples/plugins/sqlite-c/README.md"
        #expect(try Project.text(of: readme).split(separator: "\n", omittingEmptySubsequences: false).count <= 41)
    }
}
