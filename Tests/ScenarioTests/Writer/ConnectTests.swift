import Testing

@testable import TestSupport

@Suite("check --connect")
struct ConnectTests {
    /// Runs `gateway check --connect`, and returns its exit status and its lines without warnings and times.
    private func check(
        _ scenario: Scenario, _ receivers: [String: String], more: String = ""
    ) throws -> (status: Int32, lines: [String]) {
        let listeners = GatewayProcess.listener(receivers.keys.sorted())
        let config = GatewayProcess.config(listeners: listeners, receivers: receivers, more: more)
        let file = try scenario.write("{ \(config) }", to: "gateway.json")
        let check = try scenario.start([try Project.builtGateway(), "check", "--config", file, "--connect"])
        let status = try check.waitForExit()
        let lines = check.output.lines.filter { !$0.contains(": warning: ") }
        return (status, lines.map { $0.replacing(#/\(\d+ ms\)/#, with: "(TIME)") })
    }

    /// Checks one HTTPWriter whose only endpoint is named "up".
    ///
    /// - Returns: its lines.
    @discardableResult
    private func check(_ scenario: Scenario, _ url: String, _ members: String = "", ok: Bool, _ words: String = "") throws -> [String] {
        let (status, lines) = try check(scenario, ["up": ReceiverEntry.endpoint(url, members)])
        #expect(status == (ok ? 0 : 1), "\(lines)")
        let first = lines.count == 3 ? lines[1] : ""
        #expect(first.hasPrefix("receivers.up: endpoint up: ") && first.hasSuffix(" (TIME)"), "\(lines)")
        #expect(first.contains(ok ? "takes profiles" : words), "\(lines)")
        let last = ok ? "can deliver (TIME)" : "cannot deliver (TIME): 1 of 1 endpoints would not take a profile: up"
        #expect(lines.last == "receivers.up: \(last)", "\(lines)")
        return lines
    }

    private static let clients = ["", #""client": "libcurl""#]

    @Test("An endpoint gets an empty Push with its credentials, headers and tenant", arguments: clients)
    func request(client: String) throws {
        try Scenario.run { scenario in
            let upstream = try Recorder(scenario)
            let members = #""basic_auth": { "username": "a", "password": "b" }, "tenant": { "force": "t" }, "headers": { "X-A": "b" }"#
            try check(scenario, "\(upstream.url)/base", [members, client].filter { !$0.isEmpty }.joined(separator: ", "), ok: true)
            let request = try #require(upstream.requests.first)
            #expect(upstream.requests.count == 1)
            #expect((request.method, request.target, request.length) == ("POST", "/base/push.v1.PusherService/Push", 0))
            #expect(request.header("Authorization") == ["Basic YTpi"])
            #expect(request.header("X-Scope-OrgID") == ["t"] && request.header("X-A") == ["b"])
            #expect(request.header("Content-Type") == ["application/proto"])
        }
    }

    @Test("Pyroscope's refusals of a Push without a profile or tenant are good, and other refusals are not", arguments: clients)
    func answers(client: String) throws {
        let rows: [(status: Int, body: String, members: String, ok: Bool)] = [
            (400, #"{"code":"invalid_argument","message":"no profiles received"}"#, "", true),
            (400, #"{"code":"invalid_argument","message":"something else"}"#, "", false),
            (401, #"{"code":"unauthenticated","message":"no org id"}"#, "", true),
            (401, #"{"code":"unauthenticated","message":"no org id"}"#, #""tenant": { "drop": true }"#, false),
            (401, "wrong password", "", false), (403, "", "", false), (404, "", "", false), (429, "", "", false), (500, "", "", false),
            (204, "", "", true), (200, "<html>login</html>", "", false),
        ]
        try Scenario.run { scenario in
            let upstream = try Recorder(scenario)
            for row in rows {
                try upstream.answer(row.status, body: row.body, headers: row.body.hasPrefix("<") ? [["Content-Type", "text/html"]] : [])
                let members = [row.members, client].filter { !$0.isEmpty }.joined(separator: ", ")
                try check(scenario, upstream.url, members, ok: row.ok, "HTTP \(row.status)")
            }
        }
    }

    @Test("An endpoint that is not there, or does not answer, is named", arguments: clients)
    func unreachable(client: String) throws {
        try Scenario.run { scenario in
            let upstream = try Recorder(scenario)
            try upstream.hold()
            let members = [#""remote_timeout": "200ms""#, client].filter { !$0.isEmpty }.joined(separator: ", ")
            let lines = try check(scenario, upstream.url, members, ok: false, "timed out after ")
            // A client may notice it later, and libcurl a little earlier, because it counts in whole milliseconds.
            let time = try #require(lines.joined().firstMatch(of: #/timed out after (\d+)/#)?.output.1)
            #expect(Int(time) ?? 0 >= 190, "\(lines)")
            try check(scenario, "http://127.0.0.1:1", client, ok: false, "onnect")
            try check(scenario, "http://no-such-host.invalid", client, ok: false, "no-such-host.invalid")
        }
    }

    @Test("A token is fetched first, and one that is refused is named")
    func token() throws {
        try Scenario.run { scenario in
            let (upstream, tokens) = (try Recorder(scenario), try TokenServer(scenario))
            let oauth2 = #""oauth2": { "client_id": "gateway", "client_secret": "s3cret", "token_url": "\#(tokens.url)" }"#
            try check(scenario, upstream.url, oauth2, ok: true)
            #expect(upstream.requests.map { $0.header("Authorization") } == [["Bearer token-1"]])
            try tokens.set("\"accept\": []")
            try check(scenario, upstream.url, oauth2, ok: false, "oauth2")
            #expect(upstream.requests.count == 1)
        }
    }

    @Test("Every endpoint, folder and receiver has its line, and one failure is enough for exit 1")
    func lines() throws {
        try Scenario.run { scenario in
            let upstream = try Recorder(scenario)
            try scenario.write("", to: "file")
            let two = #"[{ "url": "\#(upstream.url)", "name": "one" }, { "url": "http://127.0.0.1:1", "name": "two" }]"#
            let archive = { (folder: String) in #""plugin": "FileSink", "config": { "directory": "\#(folder)" }"# }
            let receivers = [
                "a": #""plugin": "HTTPWriter", "config": { "endpoint": \#(two) }"#, "b": archive(scenario.path("archive")),
                "c": archive(scenario.path("file/archive")), "d": #""plugin": "StdoutSink""#,
            ]
            let (status, lines) = try check(scenario, receivers, more: #""data_dir": "\#(scenario.path("data/deep"))","#)
            #expect(status == 1)
            let last = Array(lines.drop { !$0.hasPrefix("data_dir") })
            try #require(last.count == 7, "\(lines)")
            #expect(last[0].hasPrefix("data_dir: a file in \(scenario.folder), where it will be made, was written"))
            #expect(Set(last[1...2].map { $0.prefix(26) }) == ["receivers.a: endpoint one:", "receivers.a: endpoint two:"])
            #expect(last[3] == "receivers.a: cannot deliver (TIME): 1 of 2 endpoints would not take a profile: two")
            #expect(last[4] == "receivers.b: can deliver (TIME)")
            #expect(last[5].hasPrefix("receivers.c: cannot deliver (TIME): ") && last[5].contains("file"))
            #expect(last[6] == "receivers.d: not tried, because its plugin has no probe")
            #expect(scenario.files(under: "archive").isEmpty && scenario.files(under: ".").allSatisfy { !$0.contains("probe") })
        }
    }

    @Test("A config with a mistake is not tried")
    func mistake() throws {
        try Scenario.run { scenario in
            let upstream = try Recorder(scenario)
            let (status, lines) = try check(scenario, ["up": ReceiverEntry.endpoint(upstream.url, #""nonsense": 1"#)])
            #expect(status == 1 && lines.count == 1)
            #expect(upstream.requests.isEmpty)
        }
    }
}
