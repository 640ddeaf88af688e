import Foundation
import Testing

@testable import TestSupport

@Suite("Connections that are half-closed, reset or slow", .serialized)
struct ConnectionEndTests {
    /// Runs a test against a gateway with one receiver, which delivers at once.
    private func run(http: String = "", more: String = "", _ body: (GatewayProcess) throws -> Void) throws {
        try Scenario.run { scenario in
            try body(try GatewayProcess(scenario, receivers: ["console": ReceiverEntry.console()], http: http, more: more))
        }
    }

    private static let head = HTTPServerTests.head

    // MARK: Half-closed connections

    @Test("A sender that half-closes still gets the delivery result, however long that takes", arguments: DeliveredTests.API.allCases)
    func halfCloseDelivered(api: DeliveredTests.API) throws {
        try Scenario.run { scenario in
            let upstream = try Recorder(scenario)
            let gateway = try GatewayProcess(scenario, delivering: ["up": ReceiverEntry.writer(upstream.url)])
            try upstream.hold()
            let connection = try RawConnection(gateway.port)
            try api.begin(connection, 1)
            connection.halfClose()
            try upstream.wait(count: 1)
            #expect(try gateway.metrics().connections() == 1)
            try upstream.answer()
            #expect(try connection.readResponse().status == 200)
            #expect(try connection.readToEnd() == "")
            try gateway.waitForMetrics("no connection") { $0.connections() == 0 }
        }
    }

    @Test("A sender that pipelines thousands of requests and half-closes gets every answer")
    func halfClosePipelined() throws {
        try run { gateway in
            let count = 5000
            nonisolated(unsafe) let connection = try RawConnection(gateway.port, receiveBuffer: 4096)
            let requests = Array(repeating: "POST /\(String(repeating: "x", count: 120)) HTTP/1.1\r\nHost: a\r\n\r\n", count: count)
                .joined()
            // Another thread sends, because the gateway reads no more requests while nobody reads its answers.
            Thread.detachNewThread {
                connection.send(requests)
                connection.halfClose()
            }
            let answers = try connection.readResponses()
            #expect(answers.count == count)
            #expect(answers.allSatisfy { $0.status == 404 })
        }
    }

    @Test("A client that half-closes gets the whole of a page that is larger than a socket buffer")
    func halfClosePage() throws {
        try Scenario.run { scenario in
            let receivers = (0..<40).map { ("console-\($0)", ReceiverEntry.console()) }
            let gateway = try GatewayProcess(scenario, receivers: Dictionary(uniqueKeysWithValues: receivers))
            let connection = try RawConnection(gateway.adminPort, receiveBuffer: 4096)
            connection.send("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")
            connection.halfClose()
            let page = try connection.readResponses()
            #expect(page.map(\.status) == [200])
            #expect(page.reduce(0) { $0 + $1.body.count } > 50_000)
        }
    }

    @Test(
        "A connection that is half-closed within a request is closed at once",
        arguments: [
            "POST /ingest?na", line + "Host: a\r\nContent-Le", head + "Content-Length: 10\r\n\r\nhalf", head + "Content-Length: 10\r\n\r\n",
            head + "Transfer-Encoding: chunked\r\n\r\n", head + "Transfer-Encoding: chunked\r\n\r\n5\r\nab",
            head + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", head + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
            "POST /nowhere HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf",
        ])
    func halfCloseMidRequest(request: String) throws {
        try run { gateway in
            let connection = try RawConnection(gateway.port)
            connection.send(request)
            connection.halfClose()
            #expect(try connection.readToEnd() == "")
            try gateway.waitForMetrics("no connection") { $0.connections() == 0 }
            #expect(try gateway.metrics().accepted("console") == 0)
        }
    }

    private static let line = RequestRow.line

    // MARK: Senders that leave

    @Test("Bodies of senders that leave midway are released from max_in_flight_bytes", arguments: [true, false])
    func leftBodies(isReset: Bool) throws {
        try run(more: "\"limits\": { \"max_in_flight_bytes\": \"64KiB\" },") { gateway in
            for framing in ["Content-Length: 100000\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\nfff0\r\n"] {
                for _ in 0..<4 {
                    let leaving = try RawConnection(gateway.port)
                    leaving.send(Self.head + framing + String(repeating: "x", count: 60_000))
                    try gateway.waitForMetrics("a connection") { $0.connections() == 1 }
                    if isReset { leaving.reset() } else { leaving.close() }
                    try gateway.waitForMetrics("no connection") { $0.connections() == 0 }
                }
            }
            // Both bodies fit at once, so neither has to wait.
            let waiting = try RawConnection(gateway.port)
            waiting.send(Self.head + "Content-Length: 50000\r\nExpect: 100-continue\r\n\r\n")
            #expect(try waiting.readResponse().status == 100)
            waiting.send(String(repeating: "x", count: 30_000))
            #expect(try RawConnection(gateway.port).post("/ingest?name=a", String(repeating: "x", count: 20_000)).status == 200)
            waiting.send(String(repeating: "x", count: 20_000))
            #expect(try waiting.readResponse().status == 200)
            try gateway.waitForMetrics("both") { $0.delivered("console") == 2 }
        }
    }

    // MARK: Slow senders

    @Test(
        "A sender that keeps sending without ever finishing its request gets 408",
        arguments: [
            ("POST /ingest?name=", "a"), (head + "X: ", "y"), (head + "Content-Length: 1000000\r\n\r\n", "x"),
            (head + "Transfer-Encoding: chunked\r\n\r\n", "1\r\nx\r\n"), (head + "Transfer-Encoding: chunked\r\n\r\n0\r\nX: ", "y"),
        ])
    func slowSender(start: String, more: String) throws {
        try run(http: "\"server_read_timeout\": \"1s\",") { gateway in
            let connection = try RawConnection(gateway.port)
            connection.send(start)
            try gateway.waitForMetrics("408") { metrics in
                connection.send(more)
                return metrics.answered(408) == 1
            }
            let answer = try connection.readResponse()
            #expect(answer.status == 408)
            #expect(answer.header("Connection") == "close")
            #expect(try RawConnection(gateway.port).post("/ingest?name=a", "a 1").status == 200)
            try gateway.waitForMetrics("a delivery") { $0.delivered("console") == 1 }
        }
    }
}
