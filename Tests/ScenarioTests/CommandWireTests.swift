import Foundation
import Glibc
import Testing

@testable import TestSupport

@Suite("Requests and responses of send, replay and reload", .serialized)
struct CommandWireTests {
    private struct Outcome {
        let status: Int32
        let output: [String]
        let errors: [String]
        var all: String { (output + errors).joined(separator: "\n") }
    }

    private func run(_ scenario: Scenario, _ arguments: [String], _ environment: [String: String] = [:]) throws -> Outcome {
        let process = try scenario.start(arguments, environment: environment)
        let status = try process.waitForExit()
        return Outcome(status: status, output: process.output.lines, errors: process.errors.lines)
    }

    /// Runs a command of the gateway.
    private func gateway(_ scenario: Scenario, _ words: String..., environment: [String: String] = [:]) throws -> Outcome {
        try run(scenario, [try Project.builtGateway()] + words, environment)
    }

    /// Writes an archive of one profile, `abc`, with these members in its metadata.
    private func archive(_ scenario: Scenario, _ members: [String: Any] = [:]) throws {
        let stem = "20260131T235959.123456789Z-5"
        let sample: [String: Any] = [
            "file": "\(stem).pprof", "id": "", "size": 3, "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        ]
        var metadata: [String: Any] = [
            "version": 1, "api": "ingest", "tenant": "", "query": "name=a", "content_type": "text/plain", "content_encoding": "",
            "labels": [String: String](), "headers": [[String]](), "samples": [sample],
        ]
        metadata.merge(members) { $1 }
        try FileManager.default.createDirectory(atPath: scenario.path("archive"), withIntermediateDirectories: true)
        let json = try JSONSerialization.data(withJSONObject: metadata)
        try scenario.write(String(decoding: json, as: UTF8.self), to: "archive/\(stem).json")
        try scenario.write("abc", to: "archive/\(stem).pprof")
    }

    /// Writes a config whose admin listener has this port, which belongs to a test server.
    private func config(_ scenario: Scenario, admin port: UInt16) throws -> String {
        try scenario.write("{ \"admin\": { \"listen_address\": \"127.0.0.1\", \"listen_port\": \(port) } }", to: "admin.json")
    }

    // MARK: Heads

    private static let smuggled = "x\r\nContent-Length: 0\r\n\r\nPOST /-/reload HTTP/1.1\r\nX-Smuggled: yes"

    /// Metadata members with values that would forge a request head, and the error that each one gets.
    static let forged: [(name: String, text: String, said: String)] = [
        ("tenant", smuggled, "the header X-Scope-OrgID holds"), ("content_type", "a\rb", "the header Content-Type holds"),
        ("content_encoding", "a\nb", "the header Content-Encoding holds"),
        ("query", "name=a\r\nX-Smuggled: 1", "the URL or its query holds"),
        ("query", "name=a HTTP/1.1", "the URL or its query holds white space"), ("query", "name=a\0b", "the URL or its query holds"),
        ("value", smuggled, "the header x-a holds"), ("value", "a\0b", "the header x-a holds"),
        ("name", "a\r\nX-Smuggled", "is no name of a header"),
        ("name", "Transfer-Encoding ", "is no name of a header"),
    ]

    @Test("replay sends nothing of a profile whose metadata would forge headers or requests", arguments: forged)
    func forgedMetadata(row: (name: String, text: String, said: String)) throws {
        try Scenario.run { scenario in
            let recorder = try Recorder(scenario)
            let headers = ["value": ["x-a", row.text], "name": [row.text, "v"]][row.name]
            try archive(scenario, headers.map { ["headers": [$0]] } ?? [row.name: row.text])
            let outcome = try gateway(scenario, "replay", "archive", "--to", recorder.url, "--remove")
            #expect((outcome.status, outcome.output.last) == (1, "0 sent, 1 failed"))
            #expect(outcome.output.first?.contains(row.said) == true, "\(outcome.output)")
            #expect(recorder.requests.isEmpty && scenario.files(under: "archive").count == 2)
        }
    }

    @Test("Header options with more than one header, and URLs with a space, are wrong usage")
    func forgedArguments() throws {
        try Scenario.run { scenario in
            let file = try scenario.write("x", to: "profile")
            for words in [
                ["--header", "X-A: \(Self.smuggled)"], ["--header", "X A: b"], ["--header", ": b"], ["--tenant", "a\r\nX-Smuggled: 1"],
            ] {
                let outcome = try run(
                    scenario, [try Project.builtGateway(), "send", file, "--to", "http://127.0.0.1:1", "--name", "a"] + words)
                #expect(outcome.status == 2 && outcome.errors.count == 1, "\(outcome)")
                #expect(!outcome.all.contains("Smuggled"))
            }
            #expect(try gateway(scenario, "send", file, "--to", "http://127.0.0.1:1/a b", "--name", "a").status == 2)
        }
    }

    // MARK: Answers

    private static let field = "X-Field: \(String(repeating: "f", count: 1000))\r\n"
    private static let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

    /// A 200 with a body of this many bytes.
    private static func whole(_ body: Int) -> AnswerServer.Answer {
        AnswerServer.Answer(raw: "HTTP/1.1 200 OK\r\nContent-Length: \(body)\r\n\r\n\(String(repeating: "b", count: body))", then: "close")
    }

    /// A 200 whose head has this many bytes in all.
    private static func head(_ size: Int) -> AnswerServer.Answer {
        let start = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n"
        let rest = size - start.utf8.count - "\r\n".utf8.count
        // libcurl limits the length of a header line.
        let fields = String(repeating: "X: \(String(repeating: "f", count: 995))\r\n", count: rest / 1000 - 1)
        let last = "X: \(String(repeating: "l", count: rest - fields.utf8.count - 5))\r\n"
        return AnswerServer.Answer(raw: "\(start)\(fields)\(last)\r\n", then: "close")
    }

    static let answers: [String: AnswerServer.Answer] = [
        "body-below": whole((1 << 20) - 1), "body-at": whole(1 << 20), "body-above": whole((1 << 20) + 1),
        "head-below": head((64 << 10) - 1), "head-at": head(64 << 10), "head-above": head((64 << 10) + 1),
        "head-endless": AnswerServer.Answer(raw: "HTTP/1.1 200 OK\r\n", more: field),
        "interim-endless": AnswerServer.Answer(raw: "", more: "HTTP/1.1 103 Early Hints\r\n\(field)\r\n"),
        "trailers-endless": AnswerServer.Answer(raw: chunked + "0\r\n", more: field),
        "body-endless": AnswerServer.Answer(raw: chunked, more: "10000\r\n\(String(repeating: "z", count: 0x10000))\r\n"),
        "extension-endless": AnswerServer.Answer(raw: chunked + "5;", more: String(repeating: "e", count: 0x10000)),
        "page": AnswerServer.Answer(raw: "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 3\r\n\r\n<p>", then: "close"),
        "cut": AnswerServer.Answer(raw: "HTTP/1.1 200 OK\r\nContent-Len", then: "close"),
        "short": AnswerServer.Answer(raw: "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", then: "close"),
        "created": AnswerServer.Answer(raw: "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n", then: "close"),
    ]

    @Test("send accepts answers of up to 64 KiB of head and 1 MiB of body, and only a 200 of a gateway as success")
    func bounds() throws {
        try Scenario.run { scenario in
            let server = try AnswerServer(scenario, Self.answers)
            let file = try scenario.write("x", to: "profile")
            for name in Self.answers.keys.sorted() {
                let to = "http://127.0.0.1:\(server.port)/\(name)"
                let outcome = try gateway(scenario, "send", file, "--to", to, "--name", "a")
                let isGood = name.hasSuffix("-below") || name.hasSuffix("-at")
                #expect(outcome.status == (isGood ? 0 : 1), "\(name): \(outcome.all.prefix(200))")
                let said = outcome.output.first ?? ""
                if isGood { #expect(said.hasPrefix("\(file): 200 OK"), "\(name)") }
                if name.hasPrefix("head") || name.hasSuffix("endless"), !isGood {
                    #expect(said.contains("the answer has "), "\(name): \(said)")
                }
                if name == "page" { #expect(said.contains("a page"), "\(said)") }
            }
            // The answer to a Push must have the codec of the request.
            let push = try gateway(scenario, "send", file, "--push", "--to", "http://127.0.0.1:\(server.port)/body-at", "--name", "a")
            #expect(push.status == 1 && push.output.first?.contains("not application/proto") == true, "\(push.all.prefix(200))")
        }
    }

    @Test(
        "replay --remove keeps a profile after a 200 that is a login page or incomplete",
        arguments: ["page", "cut", "short", "trailers-endless"])
    func kept(name: String) throws {
        try Scenario.run { scenario in
            try archive(scenario)
            let server = try AnswerServer(scenario, Self.answers)
            let outcome = try gateway(scenario, "replay", "archive", "--to", "http://127.0.0.1:\(server.port)/\(name)", "--remove")
            #expect((outcome.status, outcome.output.last) == (1, "0 sent, 1 failed"), "\(outcome.all.prefix(300))")
            #expect(scenario.files(under: "archive").count == 2)
        }
    }

    @Test("reload succeeds only on a gateway's answer, and reads no endless answer")
    func reload() throws {
        for (name, words) in [
            ("page", "nothing that a gateway answers"), ("cut", "head"), ("body-endless", "more than 1 MiB"),
            ("trailers-endless", "more than 64 KiB"),
            ("created", "201"),
        ] {
            try Scenario.run { scenario in
                let server = try AnswerServer(scenario, ["-": try #require(Self.answers[name])])
                let outcome = try gateway(scenario, "reload", "--config", try config(scenario, admin: server.port))
                #expect(outcome.status == 1, "\(name)")
                #expect(outcome.all.contains(words) && !outcome.all.hasPrefix("reloaded"), "\(name): \(outcome.all.prefix(200))")
            }
        }
    }

    @Test("Credentials that a server repeats are not printed")
    func echo() throws {
        try Scenario.run { scenario in
            let file = try scenario.write("x", to: "profile")
            let token = try scenario.write("t0ken/t0ken+1\n", to: "token")
            let words = "bad t0ken/t0ken+1, bad t0ken%2Ft0ken%2b1, bad \(Data("t0ken/t0ken+1".utf8).base64EncodedString()), bad key-7654321"
            let raw = "HTTP/1.1 401 No\r\nContent-Length: \(words.utf8.count)\r\n\r\n\(words)"
            let server = try AnswerServer(scenario, ["a": AnswerServer.Answer(raw: raw), "-": AnswerServer.Answer(raw: raw)])
            let secrets = ["--token-file", token, "--header", "X-Key: key-7654321"]
            let send = ["send", file, "--to", "http://127.0.0.1:\(server.port)/a", "--name", "a"] + secrets
            let reload = ["reload", "--config", try config(scenario, admin: server.port)] + secrets
            for arguments in [send, reload] {
                let outcome = try run(scenario, [try Project.builtGateway()] + arguments)
                #expect(outcome.status == 1)
                #expect(outcome.all.hasSuffix("401 Unauthorized bad [secret], bad [secret], bad [secret], bad [secret]"), "\(outcome.all)")
            }
        }
    }

    // MARK: Credentials

    @Test("Headers and a token are read from files, also from a pipe")
    func files() throws {
        try Scenario.run { scenario in
            let recorder = try Recorder(scenario)
            let file = try scenario.write("x", to: "profile")
            let headers = try scenario.write("# whose\nX-Key: k3y\r\n\nX-Empty:\nX-B: b: c\n", to: "headers")
            let token = try scenario.write("t0ken \n\n", to: "token")
            let to = ["--to", recorder.url, "--name", "a"]
            let more = ["--header-file", headers, "--header", "X-C: d", "--token-file", token]
            #expect(try run(scenario, [try Project.builtGateway(), "send", file] + to + more).status == 0)
            try archive(scenario)
            #expect(try run(scenario, [try Project.builtGateway(), "replay", "archive", "--to", recorder.url] + more).status == 0)
            let line = "exec \(try Project.builtGateway()) send \(file) \(to.joined(separator: " ")) --token-file <(sleep 0.1; echo p1pe)"
            #expect(try run(scenario, ["bash", "-c", line]).status == 0)
            let requests = try recorder.wait(count: 3)
            #expect(requests.map { $0.header("Authorization") } == [["Bearer t0ken"], ["Bearer t0ken"], ["Bearer p1pe"]])
            for request in requests.prefix(2) {
                #expect([request.header("X-Key"), request.header("X-B"), request.header("X-C")] == [["k3y"], ["b: c"], ["d"]])
            }
        }
    }

    @Test("An invalid header or token file is wrong usage, and the error shows the line number but no content")
    func badFiles() throws {
        try Scenario.run { scenario in
            let file = try scenario.write("x", to: "profile")
            let rows: [(option: String, text: String?, said: String)] = [
                ("--header-file", "X-A: b\nhunter2", "line 2: is no"),
                ("--header-file", "X-A: hunter2\u{1}", "line 1: holds a control character"),
                ("--header-file", "X A: hunter2", "is no name of a header"), ("--header-file", nil, "cannot be read"),
                ("--token-file", "", "is empty"), ("--token-file", "hunter2\nhunter2", "control character"),
                ("--token-file", "\u{feff}hunter2", "byte order mark"), ("--token-file", " hunter2", "begins with white space"),
                ("--token-file", nil, "cannot be read"),
            ]
            for row in rows {
                let path = try row.text.map { try scenario.write($0, to: "secret") } ?? scenario.path("none")
                for words in [
                    ["send", file, "--to", "http://127.0.0.1:1", "--name", "a"], ["replay", ".", "--to", "http://127.0.0.1:1"], ["reload"],
                ] {
                    let outcome = try run(scenario, [try Project.builtGateway()] + words + [row.option, path])
                    #expect(
                        outcome.status == 2, "\(row): \(outcome.all)")
                    #expect(!outcome.all.contains("hunter2"), "\(outcome.all)")
                    #expect(outcome.all.contains(row.said), "\(outcome.all)")
                }
            }
            let both = try gateway(
                scenario, "send", file, "--to", "http://127.0.0.1:1", "--name", "a", "--token-file", try scenario.write("t", to: "t"),
                "--header",
                "authorization: x")
            #expect(both.status == 2 && both.all.contains("one of them is meant"), "\(both.all)")
        }
    }

    // MARK: Proxies

    @Test("send uses the proxies of the environment, except for servers on this machine")
    func proxies() throws {
        try Scenario.run { scenario in
            let (proxy, server) = (try Recorder(scenario), try Recorder(scenario))
            let file = try scenario.write("x", to: "profile")
            func send(_ url: String, _ more: [String: String] = [:]) throws -> Int32 {
                let environment = ["http_proxy": proxy.url, "ALL_PROXY": proxy.url].merging(more) { $1 }
                return try gateway(scenario, "send", file, "--to", url, "--name", "a", environment: environment).status
            }
            for host in ["127.0.0.1", "localhost", "127.1", "0.0.0.0", "[::ffff:127.0.0.1]"] {
                #expect(try send("http://\(host):\(server.port)") == 0, "\(host)")
                #expect(try send("http://\(host):\(server.port)", ["no_proxy": "*.invalid, elsewhere.invalid"]) == 0, "\(host)")
            }
            _ = try send("http://[::1]:\(server.port)")
            #expect(server.requests.count == 10 && proxy.requests.isEmpty)
            #expect(try send("http://elsewhere.invalid/x") == 0)
            #expect(try send("http://elsewhere.invalid/x", ["no_proxy": "other.invalid"]) == 0)
            for exception in ["elsewhere.invalid", "*", "other.invalid, elsewhere.invalid"] {
                #expect(try send("http://elsewhere.invalid/x", ["no_proxy": exception]) == 1, "\(exception)")
            }
            #expect(proxy.requests.count == 2)
            #expect(proxy.requests.allSatisfy { $0.target.hasPrefix("http://elsewhere.invalid/x/ingest?") })
        }
    }

    @Test("reload ignores the proxies of the environment")
    func reloadBesideProxy() throws {
        try Scenario.run { scenario in
            let proxy = try Recorder(scenario)
            let running = try GatewayProcess(scenario, receivers: ["out": ReceiverEntry.console()])
            let file = try config(scenario, admin: running.adminPort)
            let environment = ["http_proxy": proxy.url, "https_proxy": proxy.url, "ALL_PROXY": proxy.url]
            let outcome = try gateway(scenario, "reload", "--config", file, environment: environment)
            #expect((outcome.status, outcome.output) == (0, ["reloaded"]))
            #expect(proxy.requests.isEmpty)
        }
    }
}
