import Foundation
import Testing

@testable import TestSupport

/// Real profiles, sent by curl through a gateway with all its plugins to real destinations.
@Suite("Profiles arrive unchanged at every destination", .serialized)
struct ForwardingTests {
    /// How one fixture is sent, and what is expected of it.
    struct Sending: CustomTestStringConvertible, Sendable {
        let fixture: String
        let target: String
        /// The extension of the archived file.
        let ending: String
        let format: String
        var contentType: String? = nil
        var contentEncoding: String? = nil
        var tenant: String? = nil
        var testDescription: String { target }
    }

    static let sendings = [
        Sending(
            fixture: "go-cpu.pprof", target: "/ingest?name=go.cpu&format=pprof&from=1700000000&until=1700000010", ending: ".pprof",
            format: "pprof"),
        Sending(
            fixture: "go-heap.pprof", target: "/pyroscope/ingest?name=go-heap%7Benv%3Dprod%7D&format=pprof", ending: ".pprof",
            format: "pprof",
            contentType: "binary/octet-stream", contentEncoding: "gzip", tenant: "team-a"),
        Sending(
            fixture: "java.jfr", target: "/ingest?name=java&format=jfr&units=samples&sampleRate=100&spyName=javaspy", ending: ".jfr",
            format: "jfr",
            contentType: "application/octet-stream"),
        Sending(
            fixture: "python.folded", target: "/ingest?name=python&x=%2f+%41&&odd", ending: ".folded", format: "folded",
            contentType: "text/plain"),
        Sending(fixture: "python.lines", target: "/pyroscope/ingest?format=lines&name=python", ending: ".lines", format: "lines"),
        Sending(
            fixture: "python.speedscope.json", target: "/ingest?name=python&format=speedscope", ending: ".speedscope.json",
            format: "speedscope",
            contentType: "application/json; charset=utf-8", tenant: "team-b"),
    ]

    /// A gateway with two upstreams, one of them behind nginx, an archive and two consoles.
    private struct RunningSetup {
        let gateway: GatewayProcess
        let direct: Recorder
        let proxied: Recorder

        init(_ scenario: Scenario) throws {
            direct = try Recorder(scenario)
            proxied = try Recorder(scenario)
            let nginx = try Nginx(scenario, before: proxied.port)
            gateway = try GatewayProcess(
                scenario,
                receivers: [
                    "direct": "\"plugin\": \"HTTPWriter\", \"config\": { \"endpoint\": [{ \"url\": \"\(direct.url)\" }] }",
                    "nginx": "\"plugin\": \"HTTPWriter\", \"config\": { \"endpoint\": [{ \"url\": \"\(nginx.url)/base/\" }] }",
                    "archive": "\"plugin\": \"FileSink\", \"config\": { \"directory\": \"archive\" }",
                    "text": "\"plugin\": \"StdoutSink\"",
                    "json": "\"plugin\": \"StdoutSink\", \"config\": { \"format\": \"json\" }",
                ])
        }

        func waitForDeliveries(_ count: Int) throws {
            try gateway.waitForMetrics("\(count) deliveries everywhere") { metrics in
                metrics.receivers.count == 5 && metrics.receivers.allSatisfy { metrics.delivered($0) == count }
            }
        }
    }

    @Test("Profiles of each format reach both upstreams and the archive with their bytes, query, types and tenant", arguments: sendings)
    func everyFormat(_ sending: Sending) throws {
        try Scenario.run { scenario in
            let setup = try RunningSetup(scenario)
            let fixture = Fixture(name: sending.fixture)
            let options = [
                ["-H", "Content-Type: \(sending.contentType ?? "")"],
                sending.contentEncoding.map { ["-H", "Content-Encoding: \($0)"] } ?? [],
                sending.tenant.map { ["-H", "X-Scope-OrgID: \($0)"] } ?? [],
            ].flatMap { $0 }
            let answer = try Curl.post(scenario, setup.gateway.port, sending.target, file: fixture.path, options)
            #expect(answer.status == 200)
            #expect(answer.body == "")
            try setup.waitForDeliveries(1)

            let hash = try Fixture.sha256(ofFile: fixture.path, scenario)
            for (upstream, prefix) in [(setup.direct, ""), (setup.proxied, "/base")] {
                let request = try #require(try upstream.wait(count: 1).first)
                #expect(request.method == "POST")
                #expect(request.target == prefix + sending.target)
                #expect(request.sha256 == hash)
                #expect(request.header("Content-Type") == [sending.contentType].compactMap { $0 })
                #expect(request.header("Content-Encoding") == [sending.contentEncoding].compactMap { $0 })
                #expect(request.header("X-Scope-OrgID") == [sending.tenant].compactMap { $0 })
                #expect(request.header("Expect").isEmpty)
            }
            try checkArchive(scenario, sending, fixture, hash)
            try checkOutput(setup.gateway, sending, try fixture.bytes().count)
        }
    }

    /// Checks `<tenant>/<service>/<YYYY>/<MM>/<DD>/<HH>/<YYYYMMDDTHHMMSS.nnnnnnnnnZ>-<sequence>.<ext>` and its `.json`.
    private func checkArchive(_ scenario: Scenario, _ sending: Sending, _ fixture: Fixture, _ hash: String) throws {
        let files = scenario.files(under: "archive")
        let profile = try #require(files.first { !$0.hasSuffix(".json") || $0.hasSuffix(".speedscope.json") })
        #expect(files.count == 2)
        let service =
            sending.target.contains("go-heap")
            ? "go-heap" : sending.target.contains("go.cpu") ? "go.cpu" : sending.fixture.prefix { $0 != "." }
        let layout = #/([^/]+)/([^/]+)/(\d{4})/(\d\d)/(\d\d)/(\d\d)/(\d{4})(\d\d)(\d\d)T(\d\d)\d{4}\.\d{9}Z-(\d+)(\.[a-z.]+)/#
        let match = try #require(try layout.wholeMatch(in: profile), "\(profile)")
        #expect(match.1 == sending.tenant ?? "anonymous")
        #expect(match.2 == service)
        #expect([match.3, match.4, match.5, match.6] == [match.7, match.8, match.9, match.10], "the folders are the hour in the name")
        #expect(match.12 == sending.ending)
        #expect(try scenario.bytes(of: "archive/\(profile)") == fixture.bytes())

        let name = profile.dropLast(sending.ending.count)
        let metadata = try #require(
            try JSONSerialization.jsonObject(with: scenario.bytes(of: "archive/\(name).json")) as? [String: Any])
        let (path, query) = (sending.target.prefix { $0 != "?" }, sending.target.drop { $0 != "?" }.dropFirst())
        #expect(metadata["version"] as? Int == 1)
        #expect((metadata["sequence"] as? NSNumber)?.stringValue == String(match.11))
        #expect(metadata["api"] as? String == "ingest")
        #expect(metadata["path"] as? String == String(path))
        #expect(metadata["query"] as? String == String(query))
        #expect(metadata["tenant"] as? String == sending.tenant ?? "")
        #expect(metadata["format"] as? String == sending.format)
        #expect(metadata["content_type"] as? String == sending.contentType ?? "")
        #expect(metadata["content_encoding"] as? String == sending.contentEncoding ?? "")
        #expect((metadata["labels"] as? [String: String])?["service_name"] == String(service))
        #expect((metadata["headers"] as? [[String]])?.first?.first == "user-agent")
        let samples = try #require(metadata["samples"] as? [[String: Any]])
        #expect(samples.count == 1)
        #expect(samples.first?["sha256"] as? String == hash)
        #expect(samples.first?["size"] as? Int == (try fixture.bytes().count))
        #expect((samples.first?["file"] as? String).map { profile.hasSuffix("/\($0)") } == true)
    }

    /// Checks what the text console and the JSON console printed.
    private func checkOutput(_ gateway: GatewayProcess, _ sending: Sending, _ size: Int) throws {
        let lines = try gateway.process.output.wait(for: "two lines") { $0.count >= 2 ? $0 : nil }
        let json = try #require(lines.first { $0.hasPrefix("{") })
        let text = try #require(lines.first { !$0.hasPrefix("{") })
        #expect(text.contains(" \(sending.format) \(size) B 1 sample"))
        #expect(text.contains("tenant=") == (sending.tenant != nil))
        let members = try #require(try JSONSerialization.jsonObject(with: Data(json.utf8)) as? [String: Any])
        #expect(members["format"] as? String == sending.format)
        #expect(members["bytes"] as? Int == size)
        #expect(members["samples"] as? Int == 1)
        #expect(members["tenant"] as? String == sending.tenant ?? "")
        #expect((members["labels"] as? [String: String])?["__name__"] != nil)
    }

    @Test("A multipart upload with a sample type config keeps its boundary and every byte")
    func multipart() throws {
        try Scenario.run { scenario in
            let setup = try RunningSetup(scenario)
            let (profile, config) = (Fixture(name: "go-heap.pprof"), Fixture(name: "sample_type_config.json"))
            let answer = try Curl(
                scenario,
                [
                    "-F", "profile=@\(profile.path);filename=profile.pprof", "-F",
                    "sample_type_config=@\(config.path);filename=sample_type_config.json",
                    "-v", "http://127.0.0.1:\(setup.gateway.port)/ingest?name=go.heap&spyName=gospy",
                ])
            #expect(answer.status == 200)
            try setup.waitForDeliveries(1)
            let sentType = try #require(
                answer.trace.first { $0.hasPrefix("> Content-Type: multipart/form-data; boundary=") }?.dropFirst("> Content-Type: ".count))
            let requests = try [setup.direct, setup.proxied].map { try #require(try $0.wait(count: 1).first) }
            #expect(
                requests.allSatisfy { $0.header("Content-Type").first == String(sentType).trimmingCharacters(in: .whitespacesAndNewlines) })
            let file = try #require(scenario.files(under: "archive").first { $0.hasSuffix(".pprof.multipart") })
            let bytes = try scenario.bytes(of: "archive/\(file)")
            #expect(bytes.range(of: try profile.bytes()) != nil)
            #expect(bytes.range(of: try config.bytes()) != nil)
            let hash = try Fixture.sha256(ofFile: scenario.path("archive/\(file)"), scenario)
            #expect(requests.map(\.sha256) == [hash, hash])
        }
    }

    @Test("An empty body is forwarded, archived and delivered like any other")
    func emptyBody() throws {
        try Scenario.run { scenario in
            let setup = try RunningSetup(scenario)
            #expect(try RawConnection(setup.gateway.port).post("/ingest?name=empty").status == 200)
            try setup.waitForDeliveries(1)
            #expect(setup.direct.requests.map(\.length) == [0])
            #expect(setup.proxied.requests.map(\.length) == [0])
        }
    }

    @Test("A chunked body of many megabytes from a Python client arrives complete")
    func largeChunked() throws {
        try Scenario.run { scenario in
            let setup = try RunningSetup(scenario)
            let script = """
                import http.client, hashlib, random, sys
                parts = [random.Random(i).randbytes(65536) for i in range(200)]
                connection = http.client.HTTPConnection("127.0.0.1", \(setup.gateway.port))
                connection.request("POST", "/ingest?name=big&format=pprof", body=iter(parts), encode_chunked=True,
                                   headers={"Transfer-Encoding": "chunked"})
                print("status", connection.getresponse().status, hashlib.sha256(b"".join(parts)).hexdigest())
                """
            let client = try scenario.start(["python3", "-c", script])
            let line = try client.output.wait(for: "status")
            #expect(line.hasPrefix("status 200 "))
            try setup.waitForDeliveries(1)
            #expect(setup.direct.requests.map(\.sha256) == [String(line.suffix(64))])
            #expect(setup.proxied.requests.map(\.sha256) == [String(line.suffix(64))])
        }
    }

    @Test("Received profiles and bytes are counted by listener and API")
    func receivedCounters() throws {
        try Scenario.run { scenario in
            let gateway = try GatewayProcess(scenario, receivers: ["console": "\"plugin\": \"StdoutSink\""])
            let connection = try RawConnection(gateway.port)
            for _ in 0..<3 { #expect(try connection.post("/ingest?name=a", "a;b 1").status == 200) }
            let metrics = try gateway.waitForMetrics("3 deliveries") { $0.delivered("console") == 3 }
            #expect(metrics["gateway_received_bytes_total{listener=\"default\"}"] == 15)
            #expect(metrics["gateway_profiles_received_total{listener=\"default\",api=\"ingest\"}"] == 3)
            #expect(metrics.answered(200) == 3)
        }
    }
}
