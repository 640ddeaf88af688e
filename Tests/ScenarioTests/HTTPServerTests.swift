import Foundation
import Testing

@testable import TestSupport

@Suite("HTTP server of the listeners", .serialized)
struct HTTPServerTests {
    /// Runs a test against a gateway with one receiver, which delivers at once.
    private func run(http: String = "", more: String = "", _ body: (Scenario, GatewayProcess) throws -> Void) throws {
        try Scenario.run { scenario in
            let gateway = try GatewayProcess(scenario, receivers: ["console": ReceiverEntry.console()], http: http, more: more)
            try body(scenario, gateway)
        }
    }

    /// Waits until the receiver has delivered this many profiles.
    private func delivered(_ gateway: GatewayProcess, _ count: Int) throws {
        try gateway.waitForMetrics("\(count) deliveries") { $0.delivered("console") == count }
    }

    static let head = "POST /ingest?name=a HTTP/1.1\r\nHost: gateway\r\n"

    // MARK: Connections

    @Test("A connection serves several requests")
    func keepAlive() throws {
        try run { _, gateway in
            let connection = try RawConnection(gateway.port)
            for _ in 0..<10 {
                let answer = try connection.post("/ingest?name=a", "a 1")
                #expect(answer.status == 200)
                #expect(answer.header("Connection") == nil)
                #expect(answer.body.isEmpty)
            }
            try delivered(gateway, 10)
            #expect(try gateway.metrics().connections() == 1)
        }
    }

    @Test("Pipelined requests are answered in order, also with refusals between them")
    func pipelining() throws {
        try run { _, gateway in
            let connection = try RawConnection(gateway.port)
            let good = Self.head + "Content-Length: 3\r\n\r\na 1"
            let chunked = Self.head + "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n2\r\n 1\r\n0\r\n\r\n"
            let unknown = "POST /nowhere HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nGET "
            let wrongMethod = "GET /ingest HTTP/1.1\r\nHost: a\r\n\r\n"
            let nameless = "POST /ingest HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"
            connection.send(good + chunked + unknown + wrongMethod + nameless + good)
            #expect(try (0..<6).map { _ in try connection.readResponse().status } == [200, 200, 404, 405, 400, 200])
            try delivered(gateway, 3)
        }
    }

    @Test("A request that arrives byte by byte is parsed")
    func byteByByte() throws {
        try run { _, gateway in
            let connection = try RawConnection(gateway.port)
            for byte in (Self.head + "Transfer-Encoding: chunked\r\n\r\n3;x=y\r\na 1\r\n0\r\nTrailer: t\r\n\r\n").utf8 {
                connection.send([byte])
            }
            #expect(try connection.readResponse().status == 200)
            try delivered(gateway, 1)
        }
    }

    @Test("curl gets 100 Continue before it sends a large body")
    func expectContinue() throws {
        try run { scenario, gateway in
            let file = try scenario.write(String(repeating: "main;work 1\n", count: 1000), to: "body")
            // Without an interim answer, curl would wait this long.
            let options = ["-H", "Expect: 100-continue", "--expect100-timeout", "600", "-m", "50"]
            let answer = try Curl.post(scenario, gateway.port, "/ingest?name=a", file: file, options)
            #expect(answer.status == 200)
            #expect(answer.head.hasPrefix("HTTP/1.1 100 Continue"))
            try delivered(gateway, 1)
        }
    }

    @Test("A refused request with Expect gets the refusal instead of 100 Continue")
    func expectContinueRefused() throws {
        try run(more: "\"limits\": { \"max_body_size\": 1000 },") { _, gateway in
            for (target, length, status) in [("/ingest", 10, 400), ("/nowhere", 10, 404), ("/ingest?name=a", 1001, 413)] {
                let connection = try RawConnection(gateway.port)
                connection.send("POST \(target) HTTP/1.1\r\nHost: a\r\nContent-Length: \(length)\r\nExpect: 100-continue\r\n\r\n")
                let answer = try connection.readResponse()
                #expect(answer.status == status)
                #expect(answer.header("Connection") == "close")
                #expect(try connection.readToEnd() == "")
            }
            let connection = try RawConnection(gateway.port)
            connection.send(Self.head + "Content-Length: 3\r\nExpect: tea\r\n\r\n")
            #expect(try connection.readResponse().status == 417)
        }
    }

    @Test("Connection: close is obeyed, and HTTP/1.0 closes unless it asks for keep-alive")
    func closing() throws {
        try run { _, gateway in
            let closing = try RawConnection(gateway.port)
            let answer = try closing.post("/ingest?name=a", "a 1", headers: "Connection: close\r\n")
            #expect(answer.status == 200)
            #expect(answer.header("Connection") == "close")
            #expect(try closing.readToEnd() == "")

            let old = try RawConnection(gateway.port)
            old.send("POST /ingest?name=a HTTP/1.0\r\nContent-Length: 3\r\n\r\na 1")
            #expect(try old.readResponse().status == 200)
            #expect(try old.readToEnd() == "")

            let staying = try RawConnection(gateway.port)
            for _ in 0..<2 {
                staying.send("POST /ingest?name=a HTTP/1.0\r\nConnection: Keep-Alive\r\nContent-Length: 3\r\n\r\na 1")
                let answer = try staying.readResponse()
                #expect(answer.status == 200)
                #expect(answer.header("Connection")?.lowercased() == "keep-alive")
            }
            try delivered(gateway, 4)
        }
    }

    @Test("HTTP/1.0 of curl and absolute targets are accepted")
    func absoluteForm() throws {
        try run { scenario, gateway in
            let file = try scenario.write("a 1", to: "body")
            #expect(try Curl.post(scenario, gateway.port, "/ingest?name=a", file: file, ["-0"]).status == 200)
            let connection = try RawConnection(gateway.port)
            connection.send("POST http://gateway:1/ingest?name=a HTTP/1.1\r\nHost: gateway:1\r\nContent-Length: 3\r\n\r\na 1")
            #expect(try connection.readResponse().status == 200)
            try delivered(gateway, 2)
        }
    }

    @Test("A sender that half-closes after its request gets the answer")
    func halfClose() throws {
        try run { _, gateway in
            let connection = try RawConnection(gateway.port)
            connection.send(Self.head + "Content-Length: 3\r\n\r\na 1")
            connection.halfClose()
            #expect(try connection.readResponse().status == 200)
            #expect(try connection.readToEnd() == "")
            try delivered(gateway, 1)
        }
    }

    @Test("A sender that leaves within a body, by FIN or reset, leaves nothing behind")
    func goneMidBody() throws {
        try run { _, gateway in
            for isReset in [false, true] {
                let connection = try RawConnection(gateway.port)
                connection.send(Self.head + "Content-Length: 100000\r\n\r\nhalf")
                try gateway.waitForMetrics("a connection") { $0.connections() == 1 }
                if isReset { connection.reset() } else { connection.close() }
                try gateway.waitForMetrics("no connection") { $0.connections() == 0 }
            }
            #expect(try gateway.metrics().accepted("console") == 0)
        }
    }

    // MARK: Refusals

    /// A malformed request and the status that it gets.
    struct Refusal: CustomTestStringConvertible, Sendable {
        let what: String
        let request: String
        let status: Int
        var isFramingSafe = false
        var testDescription: String { what }
    }

    @Test(
        "Malformed requests are refused and the connection is closed",
        arguments: [
            Refusal(what: "no request line", request: "hello\r\n\r\n", status: 400),
            Refusal(what: "a bare LF", request: "POST /ingest?name=a HTTP/1.1\nHost: a\n\n", status: 400),
            Refusal(what: "no Host", request: "POST /ingest?name=a HTTP/1.1\r\nContent-Length: 0\r\n\r\n", status: 400),
            Refusal(what: "two Hosts", request: head + "Host: b\r\nContent-Length: 0\r\n\r\n", status: 400),
            Refusal(what: "two lengths", request: head + "Content-Length: 3\r\nContent-Length: 3\r\n\r\na 1", status: 400),
            Refusal(what: "a list of lengths", request: head + "Content-Length: 3, 3\r\n\r\na 1", status: 400),
            Refusal(what: "a signed length", request: head + "Content-Length: +3\r\n\r\na 1", status: 400),
            Refusal(
                what: "length and chunked", request: head + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", status: 400),
            Refusal(what: "chunked twice", request: head + "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", status: 400),
            Refusal(what: "another coding", request: head + "Transfer-Encoding: gzip\r\n\r\n", status: 501),
            Refusal(
                what: "chunked in HTTP/1.0", request: "POST /ingest?name=a HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                status: 400),
            Refusal(what: "a chunk without a size", request: head + "Transfer-Encoding: chunked\r\n\r\nxyz\r\n", status: 400),
            Refusal(what: "a chunk longer than its size", request: head + "Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n", status: 400),
            Refusal(what: "a folded header", request: head + "X: a\r\n b\r\n\r\n", status: 400),
            Refusal(what: "a space before the colon", request: head + "Content-Length : 3\r\n\r\na 1", status: 400),
            Refusal(what: "a NUL in a header", request: head + "X: a\0b\r\n\r\n", status: 400),
            Refusal(
                what: "a host that differs", request: "POST http://b/ingest?name=a HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
                status: 400),
            Refusal(what: "HTTP/2 by prior knowledge", request: "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", status: 505),
            Refusal(
                what: "a head over 32 KiB", request: head + String(repeating: "X: \(String(repeating: "y", count: 1000))\r\n", count: 40),
                status: 431),
            Refusal(what: "more than 128 header lines", request: head + String(repeating: "X: y\r\n", count: 130) + "\r\n", status: 431),
            Refusal(
                what: "a request line over 8 KiB", request: "POST /ingest?name=\(String(repeating: "a", count: 9000)) HTTP/1.1\r\n",
                status: 414),
        ])
    func malformed(_ refusal: Refusal) throws {
        try run { _, gateway in
            let connection = try RawConnection(gateway.port)
            connection.send(refusal.request)
            let answer = try connection.readResponse()
            #expect(answer.status == refusal.status)
            #expect(answer.header("Connection") == "close")
            #expect(answer.header("Content-Type") == "application/json")
            #expect(try connection.readToEnd() == "")
            #expect(try gateway.metrics().accepted("console") == 0)
            #expect(try RawConnection(gateway.port).post("/ingest?name=a", "a 1").status == 200, "the gateway lives on")
            try delivered(gateway, 1)
        }
    }

    @Test("Requests with an invalid path, name, tenant or method are refused with the reason, and the connection stays open")
    func refusedRequests() throws {
        try run { _, gateway in
            let connection = try RawConnection(gateway.port)
            func check(
                _ target: String, headers: String = "", _ status: Int, _ reason: String, _ location: SourceLocation = #_sourceLocation
            ) throws {
                let answer = try connection.post(target, "a 1", headers: headers)
                #expect(answer.status == status, sourceLocation: location)
                #expect(reason.isEmpty || answer.text.contains(reason), "\(answer.text)", sourceLocation: location)
            }
            try check("/", 404, "no such path")
            try check("/ingest/x", 404, "no such path")
            try check("/ingest", 400, "name: is required")
            try check("/ingest?name=", 400, "service name is required")
            try check("/ingest?name=%7Ba=b%7D", 400, "service name is required")
            try check("/ingest?name=a%20b", 400, "invalid service name")
            try check("/ingest?name=a%7Bb-c=d%7D", 400, "invalid label name")
            try check("/ingest?name=a%00", 400, "NUL")
            try check("/ingest?name=a%7Bb=%FF%7D", 400, "UTF-8")
            try check("/ingest?name=a%zz", 400, "percent-encoding")
            try check("/ingest?name=a", headers: "X-Scope-OrgID: \(String(repeating: "t", count: 151))\r\n", 400, "150")
            try check("/ingest?name=a", headers: "X-Scope-OrgID: a/../b\r\n", 400, "X-Scope-OrgID")
            try check("/ingest?name=a", headers: "X-Scope-OrgID: \(String(repeating: "t", count: 150))\r\n", 200, "")
            connection.send("GET /ingest?name=a HTTP/1.1\r\nHost: a\r\n\r\n")
            let answer = try connection.readResponse()
            #expect(answer.status == 405)
            #expect(answer.header("Allow") == "POST")
            let json = try #require(try JSONSerialization.jsonObject(with: Data(answer.body)) as? [String: Any])
            #expect(json["code"] is String && json["message"] is String)
            connection.send("HEAD /ingest?name=a HTTP/1.1\r\nHost: a\r\n\r\n")
            #expect(try connection.readResponse(toHead: true).status == 405)
            try check("/ingest?name=a", 200, "")
            try delivered(gateway, 2)
        }
    }

    @Test("A body of at most max_body_size is accepted and a larger one gets 413, with a length or chunked")
    func bodyLimit() throws {
        try run(more: "\"limits\": { \"max_body_size\": 1000 },") { _, gateway in
            for (size, status) in [(999, 200), (1000, 200), (1001, 413)] {
                let body = String(repeating: "x", count: size)
                let fixed = try RawConnection(gateway.port)
                #expect(try fixed.post("/ingest?name=a", body).status == status)
                let chunked = try RawConnection(gateway.port)
                let half = size / 2
                chunked.send(Self.head + "Transfer-Encoding: chunked\r\n\r\n\(String(half, radix: 16))\r\n\(body.prefix(half))\r\n")
                chunked.send("\(String(size - half, radix: 16))\r\n\(body.dropFirst(half))\r\n0\r\n\r\n")
                let answer = try chunked.readResponse()
                #expect(answer.status == status)
                if status == 413 {
                    #expect(answer.text.contains("max_body_size"))
                    #expect(try fixed.readToEnd() == "" && chunked.readToEnd() == "")
                }
            }
            try delivered(gateway, 4)
        }
    }

    @Test("A sender of a much too large body can read its 413")
    func farTooLarge() throws {
        try run(more: "\"limits\": { \"max_body_size\": \"1MiB\" },") { scenario, gateway in
            let file = scenario.path("big")
            try Data(count: 8 << 20).write(to: URL(fileURLWithPath: file))
            #expect(try Curl.post(scenario, gateway.port, "/ingest?name=a", file: file, ["-H", "Expect:"]).status == 413)
        }
    }

    // MARK: Timeouts

    @Test("A sender slower than server_read_timeout gets 408, in the head and in the body")
    func readTimeout() throws {
        try run(http: "\"server_read_timeout\": \"1s\",") { _, gateway in
            for request in [
                "POST /ingest?na", Self.head + "Content-Length: 10\r\n\r\nhalf", Self.head + "Transfer-Encoding: chunked\r\n\r\n5\r\nab",
            ] {
                let connection = try RawConnection(gateway.port)
                connection.send(request)
                let answer = try connection.readResponse()
                #expect(answer.status == 408)
                #expect(answer.header("Connection") == "close")
                #expect(try connection.readToEnd() == "")
            }
            let silent = try RawConnection(gateway.port)
            #expect(try silent.readToEnd() == "", "who never says anything is owed no answer")
        }
    }

    @Test("An empty line after a body begins no request, so that the connection stays open without a 408")
    func emptyLine() throws {
        try run(http: "\"server_read_timeout\": \"1s\", \"server_idle_timeout\": \"10m\",") { _, gateway in
            let (idle, late) = (try RawConnection(gateway.port), try RawConnection(gateway.port))
            let request = Self.head + "Content-Length: 3\r\n\r\na 1"
            for empty in ["\r\n", "\r\n\r\n\r\n"] {
                idle.send(request + empty)
                #expect(try idle.readResponse().status == 200)
            }
            late.send("POST /ingest?na")
            #expect(try late.readResponse().status == 408)
            #expect(!idle.hasInput)
            idle.send("\r\n" + request)
            #expect(try idle.readResponse().status == 200)
            let other = try RawConnection(gateway.port)
            for _ in 0..<16 {
                idle.send("\r\n")
                #expect(try other.post("/ingest?name=a", "a 1").status == 200)
            }
            #expect(!idle.hasInput)
            idle.send("\r\n")
            #expect(try idle.readResponse().status == 400)
        }
    }

    @Test("An idle connection is closed after server_idle_timeout without an answer")
    func idleTimeout() throws {
        try run(http: "\"server_idle_timeout\": \"500ms\",") { _, gateway in
            let connection = try RawConnection(gateway.port)
            #expect(try connection.post("/ingest?name=a", "a 1").status == 200)
            #expect(try connection.readToEnd() == "")
            try delivered(gateway, 1)
        }
    }

    @Test("After max_connection_age the next answer closes the connection and says so")
    func connectionAge() throws {
        try run(http: "\"max_connection_age\": \"50ms\",") { _, gateway in
            let connection = try RawConnection(gateway.port)
            var count = 0
            while true {
                count += 1
                let answer = try connection.post("/ingest?name=a", "a 1")
                #expect(answer.status == 200)
                if answer.header("Connection") == "close" { break }
            }
            #expect(try connection.readToEnd() == "")
            #expect(try RawConnection(gateway.port).post("/ingest?name=a", "a 1").status == 200)
            try delivered(gateway, count + 1)
        }
    }

    @Test(
        "A connection younger than max_connection_age, or without one, stays open",
        arguments: ["\"max_connection_age\": \"1h\",", "\"max_connection_age\": \"0s\",", ""])
    func youngConnection(http: String) throws {
        try run(http: http) { _, gateway in
            let connection = try RawConnection(gateway.port)
            for _ in 0..<100 { #expect(try connection.post("/ingest?name=a", "a 1").header("Connection") == nil) }
            try delivered(gateway, 100)
        }
    }

    @Test("A client that never reads is disconnected after server_write_timeout")
    func writeTimeout() throws {
        try run(http: "\"server_write_timeout\": \"300ms\",") { _, gateway in
            let connection = try RawConnection(gateway.port, receiveBuffer: 4096)
            let path = String(repeating: "x", count: 120)
            let request = Array("POST /\(path) HTTP/1.1\r\nHost: a\r\n\r\n".utf8)
            let batch = Array(repeating: request, count: 100).flatMap { $0 }
            // It is filled repeatedly, because the gateway reads requests as long as its answers find room.
            try gateway.waitForMetrics("the end of the connection") { metrics in
                connection.fill(batch)
                return metrics.answered(404) > 0 && metrics.connections() == 0
            }
            #expect(try RawConnection(gateway.port).post("/ingest?name=a", "a 1").status == 200)
            try delivered(gateway, 1)
        }
    }

    // MARK: Limits

    @Test("Above conn_limit, the connection that has been idle longest is closed")
    func connectionLimitIdle() throws {
        try run(http: "\"conn_limit\": 3,") { _, gateway in
            var served = try (0..<3).map { _ in try RawConnection(gateway.port) }
            for connection in served { #expect(try connection.post("/ingest?name=a", "a 1").status == 200) }
            #expect(try served[0].post("/ingest?name=a", "a 1").status == 200)
            served.append(try RawConnection(gateway.port))
            #expect(try served[3].post("/ingest?name=a", "a 1").status == 200)
            #expect(try served[1].readToEnd() == "")
            for index in [0, 2, 3] { #expect(try served[index].post("/ingest?name=a", "a 1").status == 200) }
            #expect(try gateway.metrics()["gateway_connections_closed_for_room_total{listener=\"default\"}"] == 1)
            #expect(try gateway.metrics().answered(503) == 0)
            try delivered(gateway, 8)
        }
    }

    @Test("Beyond half of conn_limit, silent connections replace each other and not those of senders")
    func connectionLimitSilent() throws {
        try run(http: "\"conn_limit\": 4, \"server_read_timeout\": \"10m\",") { _, gateway in
            let sender = try RawConnection(gateway.port)
            #expect(try sender.post("/ingest?name=a", "a 1").status == 200)
            var silent: [RawConnection] = []
            // They connect one after the other, because two at once could both find no silent connection to close.
            for number in 1...20 {
                silent.append(try RawConnection(gateway.port))
                _ = try gateway.log.poll(for: "\(number) connections") {
                    let taken = try gateway.metrics().connections() == min(4, number + 1)
                    return taken && silent.count(where: \.hasInput) == max(0, number - 3) ? true : nil
                }
            }
            #expect(try sender.post("/ingest?name=a", "a 1").status == 200)
            let open = silent.filter { !$0.hasInput }
            #expect(open.count == 3)
            for connection in open { #expect(try connection.post("/ingest?name=a", "a 1").status == 200) }
            for connection in silent where connection.hasInput { #expect(try connection.readToEnd() == "") }
            try delivered(gateway, 5)
        }
    }

    @Test("When all conn_limit connections have an open request, another gets 503 with Retry-After until one closes")
    func connectionLimit() throws {
        try run(http: "\"conn_limit\": 3,") { _, gateway in
            var served = try (0..<3).map { _ in try RawConnection(gateway.port) }
            for connection in served {
                #expect(try connection.post("/ingest?name=a", "a 1").status == 200)
                connection.send("POST /ingest?na")
            }
            #expect(try gateway.metrics()["pyroscope_receive_http_tcp_connections_limit{listener=\"default\"}"] == 3)
            for _ in 0..<3 {
                let refused = try RawConnection(gateway.port)
                let answer = try refused.readResponse()
                #expect(answer.status == 503)
                #expect(answer.header("Retry-After") != nil)
                #expect(try refused.readToEnd() == "")
            }
            #expect(try gateway.metrics().answered(503) == 3)
            served.removeLast().close()
            try gateway.waitForMetrics("a free place") { $0.connections() == 2 }
            #expect(try RawConnection(gateway.port).post("/ingest?name=a", "a 1").status == 200)
            served[0].send("me=a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\na 1")
            #expect(try served[0].readResponse().status == 200)
            try delivered(gateway, 5)
        }
    }

    @Test("Over max_in_flight_bytes one body is read and the others wait, and those that wait too long get 503")
    func bodiesInFlight() throws {
        try run(http: "\"server_read_timeout\": \"4s\",", more: "\"limits\": { \"max_in_flight_bytes\": \"64KiB\" },") { _, gateway in
            let size = 200_000
            let head = Self.head + "Content-Length: \(size)\r\nExpect: 100-continue\r\n\r\n"
            let senders = try (0..<3).map { _ in try RawConnection(gateway.port) }
            for sender in senders {
                sender.send(head)
                #expect(try sender.readResponse().status == 100)
            }
            // Together these bodies exceed the limit, and none can finish without its last byte.
            for sender in senders { sender.send([UInt8](repeating: 120, count: size - 1)) }
            let answers = try senders.map { try $0.readResponse() }
            let refused = answers.filter { $0.status == 503 }
            #expect(refused.count >= 1)
            #expect(refused.allSatisfy { $0.header("Retry-After") != nil })
            #expect(answers.allSatisfy { $0.status == 503 || $0.status == 408 })
            try gateway.send(20)
            try delivered(gateway, 20)
        }
    }

    @Test("A sender that leaves over max_in_flight_bytes does not block the next body in line")
    func turnIsGivenBack() throws {
        try run(http: "\"server_read_timeout\": \"60s\",", more: "\"limits\": { \"max_in_flight_bytes\": \"64KiB\" },") { _, gateway in
            let size = 200_000
            let patient = try RawConnection(gateway.port)
            patient.send(Self.head + "Content-Length: \(size)\r\nExpect: 100-continue\r\n\r\n")
            #expect(try patient.readResponse().status == 100)
            // The limit is reached, and everything sent so far has been read.
            patient.send([UInt8](repeating: 120, count: 64 * 1024))
            let barrier = try RawConnection(gateway.port)
            #expect(try barrier.post("/ingest", "").status == 400)
            let leaving = try RawConnection(gateway.port)
            leaving.send(Self.head + "Content-Length: 10\r\nExpect: 100-continue\r\n\r\n")
            #expect(try leaving.readResponse().status == 100)
            leaving.close()
            try gateway.waitForMetrics("two connections") { $0.connections() == 2 }
            patient.send([UInt8](repeating: 120, count: size - 64 * 1024))
            let answer = try patient.readResponse()
            try #require(answer.status == 200, "\(answer.text)")
            try delivered(gateway, 1)
        }
    }

    // MARK: Several listeners

    @Test("Each listener forwards to its own receivers and has its own counters")
    func severalListeners() throws {
        try Scenario.run { scenario in
            let (one, two) = (try Recorder(scenario), try Recorder(scenario))
            let listeners =
                GatewayProcess.listener(["one"], name: "default") + GatewayProcess.listener(["two"], name: "other")
                + GatewayProcess.listener(["one", "two"], name: "both")
            let gateway = try GatewayProcess(
                scenario,
                GatewayProcess.config(
                    listeners: listeners, receivers: ["one": ReceiverEntry.writer(one.url), "two": ReceiverEntry.writer(two.url)]))
            #expect(gateway.ports.keys.sorted() == ["both", "default", "other"])
            for (name, port) in gateway.ports { #expect(try RawConnection(port).post("/ingest?name=\(name)", "a 1").status == 200) }
            let metrics = try gateway.waitForMetrics("4 deliveries") { $0.delivered("one") == 2 && $0.delivered("two") == 2 }
            #expect(Set(one.requests.map(\.target)) == ["/ingest?name=default", "/ingest?name=both"])
            #expect(Set(two.requests.map(\.target)) == ["/ingest?name=other", "/ingest?name=both"])
            for name in gateway.ports.keys { #expect(metrics.answered(200, name) == 1) }
        }
    }
}
