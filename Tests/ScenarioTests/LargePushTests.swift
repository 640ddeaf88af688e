import Foundation
import Testing

@testable import TestSupport

@Suite("Pushes that take long to decode", .serialized)
struct LargePushTests {
    private static let limits = "\"limits\": { \"max_decompressed_size\": \"2GiB\", \"max_in_flight_bytes\": \"3GiB\" },"

    /// The time of senders whose Pushes are decoded by a thread that hardly runs on a busy machine.
    static let patient = "\"server_write_timeout\": \"10m\","

    /// Runs a test against a gateway that accepts large Pushes.
    private func run(
        limits: String = limits, http: String = patient,
        receiver: String = ReceiverEntry.console("json", more: "\"queue\": { \"max_bytes\": \"2GiB\" },"),
        _ body: (Scenario, GatewayProcess) throws -> Void
    ) throws {
        try Scenario.run { scenario in
            try body(scenario, try GatewayProcess(scenario, receivers: ["console": receiver], http: http, more: limits))
        }
    }

    /// Makes, with Python's zlib, a gzipped PushRequest of one series whose only sample repeats one byte `size` times.
    static func bomb(_ scenario: Scenario, _ size: Int) throws -> [UInt8] {
        let script = """
            import gzip, sys
            def varint(n): return bytes([n & 127 | (128 if n > 127 else 0)]) + (varint(n >> 7) if n > 127 else b"")
            def field(number, content): return varint(number << 3 | 2) + varint(len(content)) + content
            sample = field(2, field(1, bytes(\(size))))
            open("bomb", "wb").write(gzip.compress(field(1, field(1, field(1, b"service_name") + field(2, b"app")) + sample), 1))
            """
        let process = try scenario.start(["python3", "-c", script])
        #expect(try process.waitForExit() == 0)
        return [UInt8](try scenario.bytes(of: "bomb"))
    }

    private static let headers = "Content-Type: application/proto\r\nContent-Encoding: gzip\r\n"

    /// Sends a gzipped Push without waiting for the answer.
    static func begin(_ connection: RawConnection, _ bytes: [UInt8]) {
        connection.send("POST \(GatewayProcess.pushPath) HTTP/1.1\r\nHost: a\r\n\(headers)Content-Length: \(bytes.count)\r\n\r\n")
        connection.send(bytes)
    }

    /// Waits until the listener has read this many bytes.
    private static func waitForBytes(_ count: Int, _ gateway: GatewayProcess) throws {
        try gateway.waitForMetrics("\(count) bytes") { $0["gateway_received_bytes_total{listener=\"default\"}"] == count }
    }

    @Test("Other senders are served while a large Push is inflated, which is then delivered whole")
    func others() throws {
        try run { scenario, gateway in
            let size = 600_000_000
            let bytes = try Self.bomb(scenario, size)
            let large = try RawConnection(gateway.port)
            Self.begin(large, bytes)
            let other = try RawConnection(gateway.port)
            for _ in 0..<50 { #expect(try other.post("/ingest?name=small", "a 1").status == 200) }
            #expect(try gateway.push(.numbered(1)).status == 200)
            #expect(!large.hasInput, "it was not in the way of those")
            #expect(try large.readResponse().status == 200)
            try gateway.waitForMetrics("all of it") { $0.delivered("console") == 52 }
            try gateway.process.output.wait(for: "\"bytes\":\(size)")
        }
    }

    /// Gzipped Pushes of a few kilobytes: whether they take long to decode, and the code that makes them from one of a series.
    static let smallPushes: [(takesLong: Bool, code: String)] = [
        (false, "gzip.compress(series([], 1) * 256)"), (false, "gzip.compress(series([b'l%d' % i for i in range(200)], 1) * 6)"),
        (true, "gzip.compress(series([b'l%d' % i for i in range(200)], 1) * 7)"), (true, "gzip.compress(series([], 4096))"),
        (true, "gzip.compress(series([b'a' * 20] + [b''] * 200, 1) * 200)"),
        (false, "gzip.compress(b'') * 700 + gzip.compress(series([], 1))"),
        (true, "gzip.compress(b'') * 1000 + gzip.compress(series([], 1))"),
    ]

    @Test(
        "A small Push that takes long to inflate or to parse is not decoded by the thread that serves other senders", arguments: smallPushes
    )
    func small(takesLong: Bool, code: String) throws {
        try run { scenario, gateway in
            let script = """
                import gzip
                def varint(n): return bytes([n & 127 | (128 if n > 127 else 0)]) + (varint(n >> 7) if n > 127 else b"")
                def field(number, content): return varint(number << 3 | 2) + varint(len(content)) + content
                def series(labels, samples):
                    return field(1, b"".join(field(1, field(1, l) + field(2, b"v")) for l in labels) + field(2, field(1, b"x")) * samples)
                open("push", "wb").write(\(code))
                """
            let process = try scenario.start(["python3", "-c", script])
            #expect(try process.waitForExit() == 0)
            let bytes = [UInt8](try scenario.bytes(of: "push"))
            let connection = try RawConnection(gateway.port)
            let answer = try connection.post(GatewayProcess.pushPath, bytes: bytes, headers: Self.headers)
            #expect(answer.status == (code.contains("[b''] * 200") ? 400 : 200), "\(answer)")
            try gateway.process.waitForThreads(takesLong ? 1 : 0, named: "large-pushes")
        }
    }

    @Test("Answers to large Pushes equal those to small ones: uncompressed, in JSON and with errors", arguments: [900_000, 1_100_000])
    func sizes(size: Int) throws {
        try run { scenario, gateway in
            let connection = try RawConnection(gateway.port)
            var series = PushSeries(samples: ["id": ""])
            series.samples[0].rawProfile = Data(repeating: 7, count: size)
            #expect(try connection.push([series, .numbered(2)]).status == 200)
            let invalid = try connection.push([series, PushSeries(["a": "1", "a": "2"], samples: ["": "x"])])
            #expect((invalid.status, invalid.message) == (400, "unmarshal message: duplicate label \"a\""))
            #expect(
                try connection.post(
                    GatewayProcess.pushPath, bytes: [UInt8](repeating: 0xFF, count: size), headers: "Content-Type: application/proto\r\n"
                ).status == 400)
            #expect(
                try connection.post(GatewayProcess.pushPath, bytes: [UInt8](repeating: 0xFF, count: size), headers: Self.headers).status
                    == 400)
            #expect(try connection.post(GatewayProcess.pushPath, bytes: try Self.bomb(scenario, size), headers: Self.headers).status == 200)
            try gateway.waitForMetrics("3 profiles") { $0.delivered("console") == 3 }
        }
    }

    @Test("A Push may inflate to exactly max_decompressed_size", arguments: [-1, 0, 1])
    func limit(excess: Int) throws {
        try Scenario.run { scenario in
            let bytes = try Self.bomb(scenario, 5_000_000)
            let size = try Self.inflatedSize(scenario)
            try run(limits: "\"limits\": { \"max_decompressed_size\": \(size - excess) },") { _, gateway in
                let answer = try RawConnection(gateway.port).post(GatewayProcess.pushPath, bytes: bytes, headers: Self.headers)
                #expect(answer.status == (excess > 0 ? 429 : 200))
                if excess > 0 { #expect(answer.message == "message is larger than configured max \(size - excess)") }
            }
        }
    }

    /// The size of the inflated `bomb`.
    private static func inflatedSize(_ scenario: Scenario) throws -> Int {
        let process = try scenario.start(["sh", "-c", "gzip -dc bomb | wc -c"])
        try process.waitForExit()
        return Int(process.output.lines.joined().trimmingCharacters(in: .whitespaces)) ?? 0
    }

    @Test("Inflated sizes count against max_in_flight_bytes, so that others wait, and all are answered")
    func budget() throws {
        let limits = "\"limits\": { \"max_in_flight_bytes\": \"16MiB\", \"max_decompressed_size\": \"64MiB\" },"
        try run(limits: limits) { scenario, gateway in
            let before = try gateway.peakMemory()
            let bytes = try Self.bomb(scenario, 100 << 20)
            let senders = try (0..<8).map { _ in try RawConnection(gateway.port) }
            for sender in senders { Self.begin(sender, bytes) }
            let other = try RawConnection(gateway.port)
            #expect(try other.post("/ingest?name=app", String(repeating: "main;work 1\n", count: 10_000)).status == 200)
            for sender in senders { #expect(try sender.readResponse().status == 429) }
            // A sanitizer keeps freed memory, which does not count.
            if !Project.isSanitized { #expect(try gateway.peakMemory() - before < 100 << 20, "one is inflated at a time") }
        }
    }

    @Test("A Push that is not decoded in time is not queued, and its sender gets 503 with Retry-After")
    func turn() throws {
        try run(http: "\"server_write_timeout\": \"20ms\",") { scenario, gateway in
            let (large, small) = (try Self.bomb(scenario, 800_000_000), try Self.bomb(scenario, 2_000_000))
            var (bytes, quick) = (0, 0)
            // On a busy machine the second Push may come after the first was decoded, and then the attempt is repeated.
            let late = try gateway.log.poll(for: "one behind another") { () -> RawConnection.Response? in
                let (first, second) = (try RawConnection(gateway.port), try RawConnection(gateway.port))
                Self.begin(first, large)
                bytes += large.count
                try Self.waitForBytes(bytes, gateway)
                Self.begin(second, small)
                bytes += small.count
                let late = try second.readResponse()
                let early = try first.readResponse()
                #expect((early.status, early.code) == (503, "unavailable"))
                if late.status == 200 { quick += 1 }
                return late.status == 200 ? nil : late
            }
            #expect((late.status, late.code, late.header("Retry-After")) == (503, "unavailable", "1"))
            #expect(try gateway.metrics().received == quick)
        }
    }

    @Test("A Push whose sender leaves before its turn is not decoded")
    func abandoned() throws {
        try run { scenario, gateway in
            let (large, small) = (try Self.bomb(scenario, 800_000_000), try Self.bomb(scenario, 2_000_000))
            let first = try RawConnection(gateway.port)
            Self.begin(first, large)
            try Self.waitForBytes(large.count, gateway)
            let leaving = try RawConnection(gateway.port)
            Self.begin(leaving, small)
            try Self.waitForBytes(large.count + small.count, gateway)
            leaving.reset()
            let last = try RawConnection(gateway.port)
            Self.begin(last, small)
            #expect(try first.readResponse().status == 200)
            #expect(try last.readResponse().status == 200)
            #expect(try gateway.metrics().received == 2)
        }
    }
}
