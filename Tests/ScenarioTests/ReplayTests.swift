import Foundation
import Glibc
import Testing

@testable import TestSupport

@Suite("gateway replay")
struct ReplayTests {
    private struct Outcome {
        let status: Int32
        let output: [String]
        let errors: [String]
    }

    /// Runs `gateway replay`.
    private func replay(_ scenario: Scenario, _ arguments: String...) throws -> Outcome {
        let process = try scenario.start([try Project.builtGateway(), "replay"] + arguments)
        let status = try process.waitForExit()
        return Outcome(status: status, output: process.output.lines, errors: process.errors.lines)
    }

    /// Starts a gateway that archives in this folder.
    private func archiver(_ scenario: Scenario, _ folder: String = "archive") throws -> GatewayProcess {
        let listener = GatewayProcess.listener(["archive"], more: "\"keep_headers\": [\"user-agent\", \"x-a\", \"content-length\"],")
        return try GatewayProcess(
            scenario, GatewayProcess.config(listeners: listener, receivers: ["archive": ReceiverEntry.archive(folder)]))
    }

    /// Sends profiles one after the other, so that their times rise, and waits until they are archived.
    private func archive(_ scenario: Scenario, _ bodies: [String]) throws {
        let gateway = try archiver(scenario)
        for body in bodies { #expect(try RawConnection(gateway.port).post("/ingest?name=app", body).status == 200) }
        try gateway.waitForMetrics("all archived") { $0.delivered("archive") == bodies.count }
    }

    /// The metadata files of an archive, oldest first.
    private func metadata(_ scenario: Scenario, _ folder: String = "archive") -> [String] {
        scenario.files(under: folder).filter { $0.hasSuffix(".json") && !$0.hasSuffix(".speedscope.json") }
            .sorted { ($0.split(separator: "/").last ?? "") < ($1.split(separator: "/").last ?? "") }
    }

    /// The metadata of an archive, oldest first, without times, sequences and file names.
    private func contents(_ scenario: Scenario, _ folder: String) throws -> [[String: String]] {
        try metadata(scenario, folder).map { file in
            let object = try JSONSerialization.jsonObject(with: scenario.bytes(of: "\(folder)/\(file)"))
            var members = try #require(object as? [String: Any])
            for name in ["sequence", "received", "received_ns"] { members[name] = nil }
            var samples = try #require(members["samples"] as? [[String: Any]])
            for index in samples.indices { samples[index]["file"] = nil }
            members["samples"] = samples
            return try members.mapValues { value in
                let json = try JSONSerialization.data(withJSONObject: value, options: [.fragmentsAllowed, .sortedKeys])
                return String(decoding: json, as: UTF8.self)
            }
        }
    }

    // MARK: The same request again

    @Test(
        "A profile of /ingest is replayed as the same request",
        arguments: [("go-cpu.pprof", "pprof"), ("java.jfr", "jfr"), ("python.folded", "folded"), ("python.speedscope.json", "speedscope")])
    func ingest(file: String, format: String) throws {
        try Scenario.run { scenario in
            let gateway = try archiver(scenario)
            let recorder = try Recorder(scenario)
            let fixture = Fixture(name: file)
            let query = "name=app%7Benv%3Da+b%7D&from=1700000000&until=1700000010&format=\(format)&x=%e9|<\"'^`{}\\é&&y"
            let connection = try RawConnection(gateway.port)
            let headers =
                "X-Scope-OrgID: team-a\r\nX-A: 1\r\nX-A: 2\r\nUser-Agent: sdk/1\r\nContent-Type: binary/x\r\nContent-Encoding: gzip\r\n"
            #expect(try connection.post("/pyroscope/ingest?\(query)", bytes: [UInt8](fixture.bytes()), headers: headers).status == 200)
            try gateway.waitForMetrics("archived") { $0.delivered("archive") == 1 }
            let outcome = try replay(scenario, "archive", "--to", "\(recorder.url)/base/")
            #expect(outcome.output == ["archive/\(try #require(metadata(scenario).first)): 200 OK", "1 sent, 0 failed"])
            #expect((outcome.status, outcome.errors) == (0, []))
            let request = try #require(try recorder.wait(count: 1).first)
            // The recorder stores each byte as one character.
            let target = request.target.unicodeScalars.map { UInt8(truncatingIfNeeded: $0.value) }
            #expect(target == Array("/base/ingest?\(query)".utf8))
            #expect(try request.sha256 == Fixture.sha256(ofFile: fixture.path, scenario))
            #expect(request.header("X-Scope-OrgID") == ["team-a"])
            #expect(request.header("X-A") == ["1", "2"])
            #expect(request.header("User-Agent") == ["sdk/1"])
            #expect(request.header("Content-Type") == ["binary/x"])
            #expect(request.header("Content-Encoding") == ["gzip"])
            #expect(request.header("Content-Length").count == 1)
        }
    }

    @Test("A request without a type is replayed without one, and an empty body is kept")
    func bare() throws {
        try Scenario.run { scenario in
            try archive(scenario, [""])
            let recorder = try Recorder(scenario)
            #expect(try replay(scenario, "archive", "--to", recorder.url).status == 0)
            let request = try #require(try recorder.wait(count: 1).first)
            #expect((request.target, request.length) == ("/ingest?name=app", 0))
            for name in ["Content-Type", "Content-Encoding", "X-Scope-OrgID"] { #expect(request.header(name) == []) }
        }
    }

    @Test("Replaying an archive into a second gateway makes an equal archive, for both APIs and all tenants")
    func twice() throws {
        try Scenario.run { scenario in
            let first = try archiver(scenario, "first")
            let connection = try RawConnection(first.port)
            for (number, file) in ["go-cpu.pprof", "java.jfr", "python.folded"].enumerated() {
                let format = ["pprof", "jfr", "folded"][number]
                let target = "/ingest?name=app%7Bn=\(number)%7D&format=\(format)"
                let answer = try connection.post(
                    target, bytes: [UInt8](Fixture(name: file).bytes()), headers: "X-Scope-OrgID: t\(number)\r\nX-A: \(number)\r\n")
                #expect(answer.status == 200)
            }
            let series = PushSeries(
                ["__name__": "cpu", "service_name": "pushed", "zone": "é\"\\"], samples: ["id-1": "one", "id-2": "", "id-3": "three"])
            #expect(try first.push(series, .numbered(1), headers: "X-Scope-OrgID: pusher\r\nX-A: p\r\n").status == 200)
            try first.waitForMetrics("all archived") { $0.delivered("archive") == 5 }
            let second = try archiver(scenario, "second")
            let outcome = try replay(scenario, "first", "--to", "http://127.0.0.1:\(second.port)")
            #expect(outcome.output.last == "5 sent, 0 failed")
            #expect(outcome.status == 0)
            try second.waitForMetrics("all archived again") { $0.delivered("archive") == 5 }
            var wanted = try contents(scenario, "first")
            for index in wanted.indices where wanted[index]["api"] == "\"push\"" {
                wanted[index]["content_type"] = "\"application\\/proto\""
                wanted[index]["content_encoding"] = "\"gzip\""
            }
            let got = try contents(scenario, "second")
            // libcurl adds its own User-Agent if the original had none.
            let without = { (members: [String: String]) in members.filter { $0.key != "headers" } }
            #expect(got.map(without) == wanted.map(without))
            #expect(got.count == 5)
            #expect(got.last?["samples"] != nil)
            #expect(got.allSatisfy { $0["headers"]?.contains("x-a") == true })
        }
    }

    @Test("Profiles are replayed oldest first across folders, and a folder inside the archive can be replayed alone")
    func order() throws {
        try Scenario.run { scenario in
            let gateway = try archiver(scenario)
            let services = ["z", "a", "m"]
            for (number, service) in services.enumerated() {
                #expect(try RawConnection(gateway.port).post("/ingest?name=\(service)", "body \(number)").status == 200)
            }
            try gateway.waitForMetrics("all archived") { $0.delivered("archive") == 3 }
            let recorder = try Recorder(scenario)
            #expect(try replay(scenario, "archive/", "--to", recorder.url).status == 0)
            #expect(recorder.requests.map(\.text) == ["body 0", "body 1", "body 2"])
            let inside = try replay(scenario, "archive/anonymous/a", "--to", recorder.url)
            #expect((inside.status, inside.output.last) == (0, "1 sent, 0 failed"))
            #expect(recorder.requests.last?.text == "body 1")
        }
    }

    @Test("--tenant and --header replace the profile's own headers")
    func overrides() throws {
        try Scenario.run { scenario in
            let gateway = try archiver(scenario)
            let headers = "X-Scope-OrgID: old\r\nX-A: old\r\n"
            #expect(try RawConnection(gateway.port).post("/ingest?name=app", "a 1", headers: headers).status == 200)
            try gateway.waitForMetrics("archived") { $0.delivered("archive") == 1 }
            let recorder = try Recorder(scenario)
            let outcome = try replay(
                scenario, "archive", "--to", recorder.url, "--tenant", "new", "--header", "x-a: new", "--header", "X-B: 2")
            #expect(outcome.status == 0)
            let request = try #require(try recorder.wait(count: 1).first)
            #expect([request.header("X-Scope-OrgID"), request.header("X-A"), request.header("X-B")] == [["new"], ["new"], ["2"]])
        }
    }

    // MARK: Problems

    @Test("Damaged, missing and foreign files are reported, and the rest is replayed")
    func damage() throws {
        try Scenario.run { scenario in
            try archive(scenario, (0..<6).map { "body \($0)" })
            let files = metadata(scenario)
            let payload = { (index: Int) in "archive/" + files[index].replacing(".json", with: ".folded") }
            try scenario.write("body x", to: payload(0))
            try scenario.write("body 11", to: payload(1))
            try FileManager.default.removeItem(atPath: scenario.path(payload(2)))
            try FileManager.default.removeItem(atPath: scenario.path("archive/\(files[3])"))
            let text = String(decoding: try scenario.bytes(of: "archive/\(files[4])"), as: UTF8.self)
            try scenario.write(text.replacing("\"file\":\"", with: "\"file\":\"../"), to: "archive/\(files[4])")
            try scenario.write("{}", to: "archive/notes.json")
            try scenario.write("{}", to: "archive/20260101T000000.000000000Z-1.json")
            let half = files[5].split(separator: "/").dropLast().joined(separator: "/")
            try scenario.write("half", to: "archive/\(half)/.20260101T000000.000000000Z-1.pprof.1-1-1.tmp")
            let recorder = try Recorder(scenario)
            let outcome = try replay(scenario, "archive", "--to", recorder.url, "--remove")
            #expect(outcome.status == 1)
            #expect(recorder.requests.map(\.text) == ["body 5"])
            let wanted: [(String, String)] = [
                ("archive/20260101T000000.000000000Z-1.json", "no metadata of a profile: version: "),
                ("archive/\(files[0])", "another SHA-256"),
                ("archive/\(files[1])", "has 7 bytes and not 6"), ("archive/\(files[2])", "No such file or directory"),
                ("archive/\(files[4])", "samples[0].file: is no file name"), ("archive/\(files[5])", "200 OK"),
                (payload(3), "has no metadata"), ("archive/notes.json", "no file of an archive"),
            ]
            #expect(outcome.output.count == wanted.count + 1)
            for (line, (file, words)) in zip(outcome.output, wanted) {
                #expect(line.hasPrefix("\(file): ") && line.contains(words), "\(line)")
            }
            #expect(outcome.output.last == "1 sent, 7 failed")
            #expect(metadata(scenario).contains(files[0]), "what was not sent stays")
            #expect(!metadata(scenario).contains(files[5]))
        }
    }

    @Test("--remove deletes only profiles answered with 200, and their empty folders")
    func remove() throws {
        try Scenario.run { scenario in
            try archive(scenario, ["good 1", "bad 1", "good 2"])
            let files = metadata(scenario)
            let recorder = try Recorder(scenario)
            try recorder.reject("bad", 422)
            let first = try replay(scenario, "archive", "--to", recorder.url, "--remove")
            #expect((first.status, first.output.last) == (1, "2 sent, 1 failed"))
            #expect(first.output[1] == "archive/\(files[1]): 422 Unprocessable Content")
            #expect(scenario.files(under: "archive") == [files[1].replacing(".json", with: ".folded"), files[1]].sorted())
            try recorder.reject("nothing", 422)
            try recorder.answer()
            let kept = try replay(scenario, "archive", "--to", recorder.url)
            #expect(kept.status == 0)
            #expect(scenario.files(under: "archive").count == 2)
            #expect(try replay(scenario, "archive", "--to", recorder.url, "--remove").status == 0)
            #expect(try FileManager.default.contentsOfDirectory(atPath: scenario.path("archive")) == [])
            let empty = try replay(scenario, "archive", "--to", recorder.url, "--remove")
            #expect((empty.status, empty.output) == (0, ["0 sent, 0 failed"]))
        }
    }

    @Test("--remove deletes only the files it read, also when their folder was replaced by a link")
    func swappedFolder() throws {
        try Scenario.run { scenario in
            try archive(scenario, ["body"])
            let file = try #require(metadata(scenario).first)
            let folder = scenario.path("archive/\(file)").split(separator: "/").dropLast().joined(separator: "/")
            let (read, victim, moved) = ("/\(folder)", scenario.path("victim"), scenario.path("moved"))
            try FileManager.default.copyItem(atPath: read, toPath: victim)
            let recorder = try Recorder(scenario)
            try recorder.hold()
            let process = try scenario.start([try Project.builtGateway(), "replay", "archive", "--to", recorder.url, "--remove"])
            try recorder.wait(count: 1)
            try FileManager.default.moveItem(atPath: read, toPath: moved)
            try FileManager.default.createSymbolicLink(atPath: read, withDestinationPath: victim)
            try recorder.answer()
            #expect(try process.waitForExit() == 0)
            #expect(scenario.files(under: "victim").count == 2)
            #expect(scenario.files(under: "moved") == [])
        }
    }

    @Test("replay follows no link in an archive, neither to send nor to remove")
    func plantedLink() throws {
        try Scenario.run { scenario in
            try archive(scenario, ["body"])
            try FileManager.default.moveItem(atPath: scenario.path("archive/anonymous"), toPath: scenario.path("outside"))
            try FileManager.default.createSymbolicLink(
                atPath: scenario.path("archive/anonymous"), withDestinationPath: scenario.path("outside"))
            let recorder = try Recorder(scenario)
            let outcome = try replay(scenario, "archive", "--to", recorder.url, "--remove")
            #expect((outcome.status, outcome.output) == (1, ["archive/anonymous: no file of an archive", "0 sent, 1 failed"]))
            #expect(recorder.requests.isEmpty)
            #expect(scenario.files(under: "outside").count == 2)
        }
    }

    @Test("The archive's index is not reported as foreign, unless it is in another folder")
    func index() throws {
        try Scenario.run { scenario in
            try archive(scenario, ["body"])
            try scenario.write("gateway-archive-index 1\nend 0\n", to: "archive/.gateway-archive-index")
            let recorder = try Recorder(scenario)
            #expect(try replay(scenario, "archive", "--to", recorder.url).output.last == "1 sent, 0 failed")
            try scenario.write("", to: "archive/anonymous/.gateway-archive-index")
            #expect(try replay(scenario, "archive", "--to", recorder.url).output.last == "1 sent, 1 failed")
        }
    }

    @Test("A gateway can continue to write into its archive after --remove")
    func removeBesideGateway() throws {
        try Scenario.run { scenario in
            let gateway = try archiver(scenario)
            let recorder = try Recorder(scenario)
            for number in 1...3 {
                #expect(try RawConnection(gateway.port).post("/ingest?name=app", "body \(number)").status == 200)
                try gateway.waitForMetrics("archived") { $0.delivered("archive") == number }
                let outcome = try replay(scenario, "archive", "--to", recorder.url, "--remove")
                #expect((outcome.status, outcome.output.last) == (0, "1 sent, 0 failed"))
            }
            #expect(recorder.texts == ["body 1": 1, "body 2": 1, "body 3": 1])
        }
    }

    @Test("--json prints one object a line, for each profile and for the totals")
    func json() throws {
        struct Line: Decodable {
            let path: String?
            let status: Int?
            let message: String?
            let sent: Int?
            let failed: Int?
        }
        try Scenario.run { scenario in
            try archive(scenario, ["good", "bad"])
            try scenario.write("x", to: "archive/stray")
            let recorder = try Recorder(scenario)
            try recorder.reject("bad", 422)
            let outcome = try replay(scenario, "archive", "--to", recorder.url, "--json")
            #expect(outcome.status == 1)
            let lines = try outcome.output.map { try JSONDecoder().decode(Line.self, from: Data($0.utf8)) }
            #expect(lines.map(\.status) == [200, 422, 0, nil])
            #expect(lines.compactMap(\.path) == metadata(scenario).map { "archive/\($0)" } + ["archive/stray"])
            #expect((lines.last?.sent, lines.last?.failed) == (1, 2))
        }
    }

    @Test("An unreachable server and a missing folder exit with 1")
    func unreachable() throws {
        try Scenario.run { scenario in
            try archive(scenario, ["a"])
            let recorder = try Recorder(scenario)
            try recorder.refuse()
            let dead = try replay(scenario, "archive", "--to", recorder.url, "--remove")
            #expect((dead.status, dead.output.last) == (1, "0 sent, 1 failed"))
            #expect(scenario.files(under: "archive").count == 2)
            let missing = try replay(scenario, "nowhere", "--to", recorder.url)
            #expect((missing.status, missing.output) == (1, []))
            #expect(missing.errors == ["gateway: open nowhere: No such file or directory"])
        }
    }

    @Test(
        "Wrong usage exits with 2",
        arguments: [
            [], ["a"], ["--to", "x"], ["a", "b", "--to", "x"], ["a", "--to", "x", "--header", "none"], ["a", "--to", "x", "--name", "n"],
        ])
    func usage(arguments: [String]) throws {
        try Scenario.run { scenario in
            let process = try scenario.start([try Project.builtGateway(), "replay"] + arguments)
            #expect(try process.waitForExit() == 2)
            #expect(process.output.lines.isEmpty)
            #expect(process.errors.lines.count == 1)
        }
    }
}
