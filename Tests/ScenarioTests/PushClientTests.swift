import Foundation
import Testing

@testable import TestSupport

/// Tests with connectrpc and sonora of PyPI and Google's protobuf classes, over all codecs, compressed or not.
@Suite("Connect and gRPC-Web clients", .serialized)
struct PushClientTests {
    struct Codec: CustomTestStringConvertible, Sendable {
        let client: String
        let name: String
        let isCompressed: Bool
        var testDescription: String { "\(client) \(name)" + (isCompressed ? "+gzip" : "") }
        /// The header by which a call sets a timeout of 100 milliseconds.
        var timeout: [String: String] { client == "connect" ? ["connect-timeout-ms": "100"] : ["grpc-timeout": "100m"] }
    }

    static let codecs = [("connect", "proto"), ("connect", "json"), ("grpc_web", "proto"), ("grpc_web", "json"), ("grpc_web", "text")]
        .flatMap { client, name in [false, true].map { Codec(client: client, name: name, isCompressed: $0) } }

    /// A call, as the client reads it.
    private struct Call: Encodable {
        let codec: String
        let gzip: Bool
        let headers: [String: String]
        let series: [PushSeries]
    }

    /// An outcome, as the client prints it.
    private struct Outcome: Decodable {
        let code: String
        let message: String?
    }

    /// A client process that makes one call after the other.
    private final class Client {
        private let process: ChildProcess
        private let codec: Codec
        private var calls = 0

        init(_ scenario: Scenario, _ gateway: GatewayProcess, _ codec: Codec) throws {
            let server = "http://127.0.0.1:\(gateway.port)"
            process = try scenario.start([try Project.python(), "\(Project.servers)/\(codec.client)_client.py", server])
            self.codec = codec
        }

        /// - Returns: the code and the message of the outcome.
        func push(_ series: PushSeries..., headers: [String: String] = [:]) throws -> (code: String, message: String) {
            let call = Call(codec: codec.name, gzip: codec.isCompressed, headers: headers, series: series)
            process.write(String(decoding: try JSONEncoder().encode(call), as: UTF8.self))
            calls += 1
            let line = try process.output.wait(for: "outcome \(calls)") { $0.count >= calls ? $0[calls - 1] : nil }
            let outcome = try JSONDecoder().decode(Outcome.self, from: Data(line.utf8))
            return (outcome.code, outcome.message ?? "")
        }
    }

    /// Runs a test with a client and a gateway that answers once its upstream has.
    private func run(
        _ codec: Codec, limits: String = "", more: String = ReceiverEntry.quickRetry, http: String = "", ack: String = "delivered",
        _ body: (Client, GatewayProcess, Recorder) throws -> Void
    ) throws {
        try Scenario.run { scenario in
            let upstream = try Recorder(scenario)
            let listener = GatewayProcess.listener(["up"], http: http, more: "\"ack\": \"\(ack)\",")
            let gateway = try GatewayProcess(
                scenario,
                GatewayProcess.config(listeners: listener, receivers: ["up": ReceiverEntry.writer(upstream.url, more: more)], more: limits))
            try body(try Client(scenario, gateway, codec), gateway, upstream)
        }
    }

    @Test("A call succeeds with several series and with none", arguments: codecs)
    func success(codec: Codec) throws {
        try run(codec) { client, gateway, upstream in
            #expect(try client.push(.numbered(1)).code == "ok")
            let pair = [PushSeries(["__name__": "cpu", "l": "\u{e9}/+"], samples: ["a": "??>>", "b": ""]), .numbered(2)]
            #expect(try client.push(pair[0], pair[1]).code == "ok")
            #expect(try client.push().code == "ok")
            #expect(try Set(upstream.wait(count: 3).flatMap { try $0.series }) == Set(pair + [.numbered(1)]))
            try gateway.waitForMetrics("3 deliveries") { $0.delivered("up") == 3 }
        }
    }

    @Test("A duplicate label is invalid_argument, and the next call succeeds", arguments: codecs)
    func badLabel(codec: Codec) throws {
        try run(codec) { client, _, upstream in
            let outcome = try client.push(PushSeries(["a": "1", "a": "2"], samples: ["": "x"]))
            #expect(outcome == ("invalid_argument", "unmarshal message: duplicate label \"a\""))
            #expect(upstream.requests.isEmpty)
            #expect(try client.push(.numbered(1)).code == "ok")
        }
    }

    /// A series whose bytes do not compress well.
    private static func noise(_ count: Int) -> PushSeries {
        var random = SystemRandomNumberGenerator()
        var series = PushSeries(samples: ["": ""])
        series.samples[0].rawProfile = Data((0..<count).map { _ in UInt8.random(in: .min ... .max, using: &random) })
        return series
    }

    @Test("A body over max_body_size is resource_exhausted", arguments: codecs)
    func bodySize(codec: Codec) throws {
        try run(codec, limits: "\"limits\": { \"max_body_size\": \"4KiB\" },") { client, _, _ in
            let outcome = try client.push(Self.noise(8192))
            #expect(outcome.code == "resource_exhausted")
            #expect(outcome.message.contains("is larger than configured max 4096"))
            #expect(try client.push(Self.noise(1024)).code == "ok")
        }
    }

    @Test("A message over max_decompressed_size is resource_exhausted", arguments: codecs.filter(\.isCompressed))
    func decompressedSize(codec: Codec) throws {
        try run(codec, limits: "\"limits\": { \"max_decompressed_size\": \"4KiB\" },") { client, _, _ in
            let outcome = try client.push(PushSeries(samples: ["": String(repeating: "x", count: 8192)]))
            #expect(outcome == ("resource_exhausted", "message is larger than configured max 4096"))
            #expect(try client.push(PushSeries(samples: ["": String(repeating: "x", count: 2048)])).code == "ok")
        }
    }

    @Test("A 400 of the upstream is invalid_argument", arguments: codecs)
    func rejected(codec: Codec) throws {
        try run(codec) { client, _, upstream in
            try upstream.answer(400)
            #expect(try client.push(.numbered(1)).code == "invalid_argument")
        }
    }

    @Test("A full queue that rejects is unavailable", arguments: codecs)
    func full(codec: Codec) throws {
        let queue = "\"max_in_flight\": 1, \"queue\": { \"max_profiles\": 1, \"on_full\": \"reject\" },"
        try run(codec, more: queue, ack: "queued") { client, _, upstream in
            try upstream.hold()
            #expect(try client.push(.numbered(1)).code == "ok")
            #expect(try client.push(.numbered(2)) == ("unavailable", "the queue of receiver \"up\" is full"))
            try upstream.answer()
        }
    }

    @Test("A call that times out at the gateway is deadline_exceeded, and the profile arrives", arguments: codecs)
    func deadline(codec: Codec) throws {
        try run(codec) { client, gateway, upstream in
            try upstream.hold()
            // Only the header is set, so that the client itself does not give up first.
            let outcome = try client.push(.numbered(1), headers: codec.timeout)
            #expect(outcome.code == "deadline_exceeded")
            #expect(outcome.message.contains("stays queued"))
            try upstream.answer()
            try gateway.waitForMetrics("a delivery") { $0.delivered("up") == 1 }
        }
    }
}
