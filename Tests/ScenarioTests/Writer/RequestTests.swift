import Foundation
import Testing

@testable import TestSupport

@Suite("Requests on their way to an upstream", .serialized)
struct RequestTests {
    @Test("With gzip the body of a Push is compressed, and the body of an /ingest request is unchanged")
    func compression() throws {
        try Scenario.run { scenario in
            let (tap, raw) = (try Tap(scenario, "tap"), try Recorder(scenario))
            let gzip = "\"compression\": \"gzip\""
            let gateway = try GatewayProcess(
                scenario,
                receivers: [
                    "gzip": ReceiverEntry.endpoint(tap.url, gzip), "raw": ReceiverEntry.endpoint(raw.url, gzip),
                    "none": ReceiverEntry.endpoint("\(raw.url)/none", "\"compression\": \"none\""),
                ])
            let large = PushSeries(samples: ["id": String(repeating: "profile ", count: 1 << 16)])
            #expect(try gateway.push(large).status == 200)
            #expect(try gateway.push(large, headers: "Content-Encoding: identity\r\n").status == 200)
            try gateway.waitForOutcomes(2)
            for request in try tap.wait(count: 2) {
                #expect(request.header("Content-Encoding") == ["gzip"])
                #expect(request.header("Content-Type") == ["application/proto"])
                #expect(try request.series == [large])
            }
            for request in raw.requests {
                let isPlain = request.target.hasPrefix("/none")
                #expect(request.header("Content-Encoding") == (isPlain ? [] : ["gzip"]))
                #expect(isPlain ? request.length > 1 << 19 : request.length < 1 << 14, "\(request.length)")
                #expect(request.header("Content-Length") == ["\(request.length)"])
            }
            let count = raw.requests.count
            // One body would become much shorter, and the other claims to be compressed already.
            let files = [
                try scenario.write(String(repeating: "main;work 1\n", count: 10_000), to: "body"), Fixture(name: "go-cpu.pprof").path,
            ]
            for (file, encoding) in zip(files, [[], ["-H", "Content-Encoding: gzip"]]) {
                #expect(try Curl.post(scenario, gateway.port, "/ingest?name=\(encoding.count)", file: file, encoding).status == 200)
            }
            try gateway.waitForOutcomes(4)
            let hashes = try files.map { try Fixture.sha256(ofFile: $0, scenario) }
            #expect(raw.requests.count == count + 4)
            for request in raw.requests.dropFirst(count) {
                let isCompressed = request.target.hasSuffix("name=2")
                #expect(request.header("Content-Encoding") == (isCompressed ? ["gzip"] : []))
                #expect(request.sha256 == hashes[isCompressed ? 1 : 0])
            }
        }
    }

    @Test("The sender's tenant is passed on, replaced or removed")
    func tenant() throws {
        try Scenario.run { scenario in
            let upstream = try Recorder(scenario)
            let ways = [
                Way("absent", ""), Way("force", #""tenant": { "force": "ours" }"#), Way("drop", #""tenant": { "drop": true }"#),
                Way("keep", #""tenant": { "drop": false }"#),
            ]
            let gateway = try GatewayProcess(scenario, ways) { _ in upstream.url }
            let theirs = "X-Scope-OrgID: theirs\r\n"
            for headers in [theirs, ""] {
                #expect(try RawConnection(gateway.port).post("/ingest?name=a", "a 1", headers: headers).status == 200)
                #expect(try gateway.push(.numbered(1), headers: headers).status == 200)
            }
            #expect(try gateway.arrivals(4) == ways.arriving)
            func tenants(_ way: String) -> [String] {
                upstream.requests.filter { $0.target.hasPrefix("/\(way)/") }.map { $0.header("X-Scope-OrgID").joined(separator: "+") }
                    .sorted()
            }
            #expect(tenants("absent") == ["", "", "theirs", "theirs"])
            #expect(tenants("keep") == ["", "", "theirs", "theirs"])
            #expect(tenants("force") == ["ours", "ours", "ours", "ours"])
            #expect(tenants("drop") == ["", "", "", ""])
        }
    }

    @Test("Trace headers are passed on, but hop-by-hop headers and the sender's credentials never are")
    func passedHeaders() throws {
        try Scenario.run { scenario in
            let upstream = try Recorder(scenario)
            let names = ["traceparent", "tracestate", "uber-trace-id"]
            let own = [
                "connection", "keep-alive", "proxy-connection", "te", "trailer", "upgrade", "x-hop", "authorization", "cookie",
                "proxy-authorization",
            ]
            let kept = (names + own).map { "\"\($0)\"" }.joined(separator: ", ")
            for keep in ["", "\"keep_secrets\": true, \"keep_headers\": [\(kept)],"] {
                let config = GatewayProcess.config(
                    listeners: GatewayProcess.listener(["up"], more: keep),
                    receivers: ["up": ReceiverEntry.endpoint("\(upstream.url)/\(keep.count)")])
                let gateway = try GatewayProcess(scenario, config)
                let headers = """
                    Traceparent: 00-1-2-01\r\nTracestate: a=1\r\nTracestate: b=2\r\nuber-trace-id: 1:2:3:1\r\nConnection: keep-alive, x-hop\r
                    Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: trailers\r\nTrailer: X-T\r\nUpgrade: h2c\r\nX-Hop: 1\r
                    Authorization: Bearer theirs\r\nCookie: theirs\r\nProxy-Authorization: Basic theirs\r

                    """
                #expect(try RawConnection(gateway.port).post("/ingest?name=a", "a 1", headers: headers).status == 200)
                #expect(try gateway.push(.numbered(1), headers: headers).status == 200)
                try gateway.waitForDeliveries(2)
                let requests = upstream.requests.filter { $0.target.hasPrefix("/\(keep.count)/") }
                #expect(requests.count == 2)
                for request in requests {
                    #expect(names.map(request.header) == [["00-1-2-01"], ["a=1", "b=2"], ["1:2:3:1"]], "\(request.target)")
                    #expect(own.filter { !request.header($0).isEmpty } == [], "\(request.target)")
                }
            }
        }
    }
}
