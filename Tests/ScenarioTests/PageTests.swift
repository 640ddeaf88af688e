import Foundation
import Glibc
import Testing

@testable import TestSupport

@Suite("The page of the admin listener", .serialized)
struct PageTests {
    private func get(_ gateway: GatewayProcess, _ path: String, _ headers: String = "", method: String = "GET") throws
        -> RawConnection.Response
    {
        let connection = try RawConnection(gateway.adminPort)
        connection.send("\(method) \(path) HTTP/1.1\r\nHost: localhost\r\n\(headers)\r\n")
        return try connection.readResponse(toHead: method == "HEAD")
    }

    /// Waits until the page has these texts.
    @discardableResult
    private func page(_ gateway: GatewayProcess, _ path: String = "/", with texts: String...) throws -> String {
        let limit = Date(timeIntervalSinceNow: Project.patience)
        while true {
            let text = try get(gateway, path).text
            if texts.allSatisfy(text.contains) { return text }
            guard Date() < limit else { throw NeverCame(what: "a page with \(texts)", seen: [text]) }
            gateway.log.pause()
        }
    }

    @Test("Every answer of the page forbids all that is not its own, and nothing is inline")
    func policy() throws {
        try Scenario.run { scenario in
            let gateway = try GatewayProcess(scenario, receivers: ["console": ReceiverEntry.console()])
            let types = [
                "/": "text/html", "/assets/page.css": "text/css", "/assets/page.js": "text/javascript", "/assets/icon.svg": "image/svg",
            ]
            for (path, type) in types {
                let answer = try get(gateway, path)
                #expect(answer.status == 200 && answer.header("Content-Type")?.hasPrefix(type) == true, "\(path)")
                let policy = answer.header("Content-Security-Policy")?.components(separatedBy: "; ") ?? []
                for rule in ["default-src 'none'", "script-src 'self'", "style-src 'self'", "base-uri 'none'", "frame-ancestors 'none'"] {
                    #expect(policy.contains(rule), "\(path)")
                }
                #expect(answer.header("X-Content-Type-Options") == "nosniff" && answer.header("Referrer-Policy") == "no-referrer")
            }
            let text = try get(gateway, "/").text
            for inline in ["style=", "<style", "onclick", "javascript:", "http://", "https://"] {
                #expect(!text.contains(inline), "\(inline)")
            }
            #expect(
                text.components(separatedBy: "<script").count == 2
                    && text.contains("<script type=\"module\" src=\"/assets/page.js\"></script>"))
            for landmark in ["<main", "<header", "<h1>", "scope=\"col\"", "<caption>", "role=\"status\"", "lang=\"en\""] {
                #expect(text.contains(landmark), "\(landmark)")
            }
            #expect(try get(gateway, "/assets/other").status == 404)
            #expect(try get(gateway, "/", method: "HEAD").status == 200)
            #expect(try get(gateway, "/", method: "POST").status == 405)
        }
    }

    @Test("The page shows rates, health with its reason, queues and refused requests; all texts are escaped")
    func content() throws {
        try Scenario.run { scenario in
            let dead = try Recorder(scenario)
            try dead.answer(500, body: "<script>alert('body')</script>")
            let gateway = try GatewayProcess(
                scenario,
                receivers: [
                    "a<b>": ReceiverEntry.archive(),
                    "dead": ReceiverEntry.writer(dead.url, more: "\"required\": false, \(ReceiverEntry.quickRetry)"),
                ])
            let name = "app%7Bx%3D%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E%7D"
            try gateway.send(10, to: "/ingest?name=\(name)")
            #expect(try RawConnection(gateway.port).post("/nowhere").status == 404)
            try gateway.waitForMetrics("a failing receiver") { $0.health("dead") == 2 && $0.delivered("a<b>") == 10 }
            let text = try page(gateway, with: "a&lt;b&gt;", "&lt;img src=x onerror=alert(1)&gt;", "Failing: dead", "404 Not Found: 1")
            #expect(!text.contains("<img") && !text.contains("<script>") && !text.contains("a<b>"))
            for part in [
                "badge failed", "delivered</span>", "retrying</span>", "HTTP 500", "Isolation", "Dead letters", "<svg class=\"flow\"",
            ] {
                #expect(text.contains(part), "\(part)")
            }
        }
    }

    @Test("A filter is applied by the gateway too, for browsers without JavaScript")
    func filter() throws {
        try Scenario.run { scenario in
            let gateway = try GatewayProcess(scenario, receivers: ["console": ReceiverEntry.console()])
            for name in ["alpha", "beta"] { try gateway.send(1, to: "/ingest?name=\(name)") }
            let both = try page(gateway, with: "service_name=&quot;alpha&quot;", "service_name=&quot;beta&quot;")
            #expect(both.contains("2 of 2 kept"))
            let one = try get(gateway, "/?filter=BETA+folded").text
            #expect(!one.contains("&quot;alpha&quot;") && one.contains("&quot;beta&quot;") && one.contains("1 of 2 kept"))
            #expect(try get(gateway, "/?filter=%22%3E%3Cscript%3E").text.contains("value=\"&quot;&gt;&lt;script&gt;\""))
        }
    }

    @Test("With admin auth everything of the page needs credentials, and so do the events")
    func auth() throws {
        try Scenario.run { scenario in
            try scenario.write("secret-token\n", to: "tokens")
            let gateway = try GatewayProcess(
                scenario, receivers: ["console": ReceiverEntry.console()], admin: "\"auth\": { \"bearer_tokens_file\": \"tokens\" }")
            for path in ["/", "/assets/page.js", "/api/v1/events", "/profiles/1"] {
                #expect(try get(gateway, path).status == 401, "\(path)")
            }
            let bearer = "Authorization: Bearer secret-token\r\n"
            #expect(try get(gateway, "/", bearer).status == 200)
            #expect(try get(gateway, "/assets/page.js", bearer).status == 200)
            // The scenario would ask for metrics without credentials.
            #expect(try gateway.stop() == 0)
        }
    }

    @Test("A foreign Host gets neither the page nor the events")
    func foreignHost() throws {
        try Scenario.run { scenario in
            let gateway = try GatewayProcess(scenario, receivers: ["console": ReceiverEntry.console()])
            for path in ["/", "/assets/page.js", "/api/v1/events", "/profiles/1"] {
                let connection = try RawConnection(gateway.adminPort)
                connection.send("GET \(path) HTTP/1.1\r\nHost: evil.example\r\n\r\n")
                #expect(try connection.readResponse().status == 403, "\(path)")
            }
        }
    }

    @Test("The last profiles are kept up to admin.recent, and none at 0", arguments: [(2, 2), (3, 3), (4, 3)])
    func recentBound(sent: Int, kept: Int) throws {
        try Scenario.run { scenario in
            let gateway = try GatewayProcess(
                scenario, receivers: ["console": ReceiverEntry.console()], admin: "\"recent\": { \"profiles\": 3 }")
            for number in 0..<sent { try gateway.send(1, to: "/ingest?name=app\(number)") }
            let text = try page(gateway, with: "&quot;app\(sent - 1)&quot;")
            #expect(text.contains("\(kept) of \(kept) kept"))
            #expect(text.contains("&quot;app0&quot;") == (sent == kept))
        }
        try Scenario.run { scenario in
            let gateway = try GatewayProcess(
                scenario, receivers: ["console": ReceiverEntry.console()], admin: "\"recent\": { \"bytes\": 0 }")
            try gateway.send(1)
            try page(gateway, with: "admin.recent is 0")
        }
    }
}

@Suite("Server-sent events of the admin listener", .serialized)
struct PageEventTests {
    /// Opens a stream of events and reads its head.
    private func events(_ port: UInt16) throws -> RawConnection {
        let connection = try RawConnection(port)
        connection.send("GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        return connection
    }

    @Test("A stream gets every part at once, and an event after a profile")
    func event() throws {
        try Scenario.run { scenario in
            let gateway = try GatewayProcess(scenario, receivers: ["console": ReceiverEntry.console()])
            let stream = try events(gateway.adminPort)
            let begin = try stream.read(until: "event: recent\n")
            #expect(begin.contains("200 OK") && begin.contains("text/event-stream") && !begin.contains("Content-Length"))
            for part in ["summary", "flow", "charts", "listeners", "receivers", "process"] {
                #expect(begin.contains("event: \(part)\ndata: "))
            }
            try gateway.send(1, to: "/ingest?name=live")
            #expect(try stream.read(until: "service_name=&quot;live&quot;").contains("event: recent\n"))
            let head = try RawConnection(gateway.adminPort)
            head.send("HEAD /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\nGET /-/healthy HTTP/1.1\r\nHost: localhost\r\n\r\n")
            #expect(try head.readResponse(toHead: true).status == 200)
            #expect(try head.readResponse().status == 200, "a HEAD has no stream")
        }
    }

    @Test("Events come over TLS too")
    func overTLS() throws {
        try Scenario.run { scenario in
            let certificates = try Certificates(scenario)
            let tls = "\"tls\": { \"cert_file\": \"server.pem\", \"key_file\": \"server.key\" }"
            let gateway = try GatewayProcess(scenario, receivers: ["console": ReceiverEntry.console()], admin: tls)
            let stream = try scenario.start([
                "curl", "-sN", "--noproxy", "*", "--cacert", certificates.authority, "https://localhost:\(gateway.adminPort)/api/v1/events",
            ])
            try stream.output.wait(for: "event: process")
            try gateway.send(1, to: "/ingest?name=live")
            try stream.output.wait(for: "service_name=&quot;live&quot;")
            #expect(try gateway.stop() == 0)
            try stream.waitForExit()
        }
    }

    @Test("Sixteen pages get updates, a seventeenth gets 503, and a page that has gone makes room")
    func bound() throws {
        try Scenario.run { scenario in
            let gateway = try GatewayProcess(scenario, receivers: ["console": ReceiverEntry.console()])
            let streams = try (0..<16).map { _ in try events(gateway.adminPort) }
            for stream in streams { _ = try stream.read(until: "event: process\n") }
            #expect(try events(gateway.adminPort).readResponse().status == 503)
            streams[3].close()
            let limit = Date(timeIntervalSinceNow: Project.patience)
            while true {
                let stream = try events(gateway.adminPort)
                if try stream.read(until: "\r\n").contains("200") { break }
                guard Date() < limit else { throw NeverCame(what: "room for another stream", seen: gateway.log.lines) }
                gateway.log.pause()
            }
            _ = streams
        }
    }

    @Test("A page that does not read is disconnected, and those that do are not")
    func slowReader() throws {
        try Scenario.run { scenario in
            let gateway = try GatewayProcess(scenario, receivers: ["console": ReceiverEntry.console()])
            let base = try gateway.metrics()["process_open_fds"]
            let slow = try RawConnection(gateway.adminPort, receiveBuffer: 4096)
            slow.send("GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            try gateway.waitForMetrics("the slow page") { $0["process_open_fds"] == base + 1 }
            let reader = try events(gateway.adminPort)
            _ = try reader.read(until: "event: process\n")
            // Each update is as large as updates get.
            let label = String(repeating: "%26", count: 400)
            try gateway.send(200, to: "/ingest?name=app%7Bx%3D\(label)%7D")
            var number = 0
            let limit = Date(timeIntervalSinceNow: Project.patience)
            while try gateway.metrics()["process_open_fds"] > base + 1 {
                try gateway.send(1, to: "/ingest?name=next\(number)")
                _ = try reader.read(until: "service_name=&quot;next\(number)&quot;")
                number += 1
                guard Date() < limit else { throw NeverCame(what: "the end of a page that does not read", seen: ["\(number) updates"]) }
            }
            try gateway.send(1, to: "/ingest?name=last")
            _ = try reader.read(until: "service_name=&quot;last&quot;")
            _ = slow
        }
    }

    @Test("Open streams end at SIGTERM at once, and delay nothing")
    func shutdown() throws {
        try Scenario.run { scenario in
            let gateway = try GatewayProcess(
                scenario, receivers: ["console": ReceiverEntry.console()], more: "\"shutdown_timeout\": \"600s\",")
            let streams = try (0..<3).map { _ in try events(gateway.adminPort) }
            for stream in streams { _ = try stream.read(until: "event: process\n") }
            // A stream that was waited for would take half of shutdown_timeout, and nobody waits for the gateway so long.
            #expect(try gateway.stop() == 0)
            for stream in streams { _ = try stream.readToEnd() }
        }
    }

    @Test("A reload that changes admin ends the streams, and one that does not keeps them")
    func reload() throws {
        try Scenario.run { scenario in
            let receivers = ["console": ReceiverEntry.console()]
            let gateway = try GatewayProcess(scenario, receivers: receivers)
            let stream = try events(gateway.adminPort)
            _ = try stream.read(until: "event: process\n")
            let config = GatewayProcess.config(listeners: GatewayProcess.listener(["console"]), receivers: receivers)
            try gateway.reload(config, scenario)
            try gateway.send(1, to: "/ingest?name=after")
            _ = try stream.read(until: "service_name=&quot;after&quot;")
            let admin = GatewayProcess.admin.replacing("\"listen_port\"", with: "\"hosts\": [\"a.example\"], \"listen_port\"")
            try gateway.reload(config, admin: admin, scenario)
            _ = try stream.readToEnd()
        }
    }
}
