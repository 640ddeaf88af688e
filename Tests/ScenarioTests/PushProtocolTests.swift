import Foundation
import Testing

@testable import TestSupport

/// Push as curl sees it: heads, encodings and sizes, with the codes of the Connect protocol.
@Suite("Push and the Connect protocol", .serialized)
struct PushProtocolTests {
    private static let path = GatewayProcess.pushPath

    /// Runs a test against a gateway with one receiver, which delivers at once.
    private func run(more: String = "", _ body: (Scenario, GatewayProcess) throws -> Void) throws {
        try Scenario.run { scenario in
            let gateway = try GatewayProcess(scenario, receivers: ["console": ReceiverEntry.console()], more: more)
            try body(scenario, gateway)
        }
    }

    private static func headers(_ lines: [String]) -> String { lines.map { "\($0)\r\n" }.joined() }

    // MARK: Heads

    @Test("Another method gets 405 with Allow and no body", arguments: ["GET", "PUT", "DELETE", "OPTIONS"])
    func method(_ method: String) throws {
        try run { scenario, gateway in
            let answer = try Curl(
                scenario, ["-X", method, "-H", "Content-Type: application/proto", "http://127.0.0.1:\(gateway.port)\(Self.path)"])
            #expect(answer.status == 405)
            #expect(answer.head.contains("Allow: POST\r\n"))
            #expect(answer.body == "")
        }
    }

    @Test("Another content type gets 415 with Accept-Post and no body")
    func contentType() throws {
        try run { scenario, gateway in
            let types = [
                "", "text/plain", "application/grpc", "application/grpc-web+thrift", "application/connect+proto", "application/x-protobuf",
                "application/json; charset=latin1", "application/proto; charset=utf-8",
            ]
            for type in types {
                let answer = try Curl.post(scenario, gateway.port, Self.path, file: "/dev/null", ["-H", "Content-Type: \(type)"])
                #expect(answer.status == 415, "\(type)")
                let served = "application/grpc-web-text+proto, application/json, application/json; charset=utf-8, application/proto"
                #expect(answer.head.contains("Accept-Post: application/grpc-web, "))
                #expect(answer.head.contains("\(served)\r\n"))
                #expect(answer.body == "")
            }
        }
    }

    @Test("An unknown encoding gets 501 unimplemented with the known ones", arguments: ["br", "zstd", "gzip, gzip", "deflate"])
    func encoding(_ encoding: String) throws {
        try run { _, gateway in
            let answer = try gateway.push(.numbered(1), headers: "Content-Encoding: \(encoding)\r\n")
            #expect(answer.status == 501)
            #expect(answer.code == "unimplemented")
            #expect(answer.message.contains("unknown compression"))
            #expect(answer.header("Accept-Encoding") == "gzip")
            #expect(answer.header("Content-Type") == "application/json")
        }
    }

    /// Invalid header lines, and a part of the error's message.
    static let badHeads: [(String, String)] = [
        ("Connect-Protocol-Version: 2", "Connect-Protocol-Version must be \"1\": got \"2\""),
        ("Connect-Protocol-Version: 1.0", "Connect-Protocol-Version must be \"1\": got \"1.0\""),
        ("Connect-Timeout-Ms: soon", "Connect-Timeout-Ms"),
        ("Connect-Timeout-Ms: -1", "Connect-Timeout-Ms"),
        ("Connect-Timeout-Ms: 1.5", "Connect-Timeout-Ms"),
        ("Connect-Timeout-Ms: 10000000000", "Connect-Timeout-Ms"),
        ("X-Scope-OrgID: a|b", "X-Scope-OrgID"),
    ]

    @Test("An invalid protocol header gets 400 invalid_argument with its name", arguments: badHeads)
    func badHead(line: String, message: String) throws {
        try run { _, gateway in
            let answer = try gateway.push(.numbered(1), headers: "\(line)\r\n")
            #expect(answer.status == 400)
            #expect(answer.code == "invalid_argument")
            #expect(answer.message.contains(message))
            #expect(answer.header("Content-Type") == "application/json")
            #expect(answer.header("Content-Encoding") == nil)
        }
    }

    /// Content types and further header lines that are accepted.
    static let goodHeads: [(String, [String])] = [
        ("application/json", []), ("application/json; charset=utf-8", []), ("application/json;charset=UTF-8", []),
        ("APPLICATION/JSON", []), ("application/json", ["Connect-Protocol-Version: 1"]),
        ("application/json", ["Connect-Timeout-Ms: 9999999999"]),
        ("application/json", ["Content-Encoding: identity"]), ("application/json", ["Accept-Encoding: br"]),
    ]

    @Test("Requests are accepted with and without the protocol's headers", arguments: goodHeads)
    func goodHead(type: String, more: [String]) throws {
        try run { _, gateway in
            let connection = try RawConnection(gateway.port)
            let answer = try connection.post(
                Self.path, try PushSeries.json([.numbered(1)]), headers: Self.headers(["Content-Type: \(type)"] + more))
            #expect(answer.status == 200)
            #expect(answer.header("Content-Type") == "application/json")
            #expect(answer.header("Content-Encoding") == nil)
            #expect(answer.text == "{}")
            try gateway.waitForMetrics("a delivery") { $0.delivered("console") == 1 }
        }
    }

    // MARK: Messages

    @Test("An empty message gets 200 and is no profile, in both codecs, compressed or not")
    func empty() throws {
        try run { _, gateway in
            let connection = try RawConnection(gateway.port)
            for encoding in [[], ["Content-Encoding: gzip"], ["Content-Encoding: identity"]] {
                let proto = try connection.post(Self.path, headers: Self.headers(["Content-Type: application/proto"] + encoding))
                #expect(proto.status == 200)
                #expect(proto.header("Content-Type") == "application/proto")
                #expect(proto.body == [])
                let json = try connection.post(Self.path, headers: Self.headers(["Content-Type: application/json"] + encoding))
                #expect(json.status == 200)
            }
            for message in ["{}", "{\"series\":[]}", "null"] {
                #expect(try connection.post(Self.path, message, headers: "Content-Type: application/json\r\n").text == "{}")
            }
            let metrics = try gateway.metrics()
            #expect(metrics.accepted("console") == 0)
            #expect(metrics["gateway_profiles_received_total{listener=\"default\",api=\"push\"}"] == 0)
        }
    }

    @Test("A JSON answer is compressed for clients that accept it or compress, and an empty proto answer never is")
    func compressedAnswer() throws {
        try run { scenario, gateway in
            let file = try scenario.write("{}", to: "empty.json")
            try scenario.start(["gzip", "-k", file]).waitForExit()
            let json = ["-H", "Content-Type: application/json"]
            let asked = try Curl.post(scenario, gateway.port, Self.path, file: file, json + ["--compressed"])
            let sent = try Curl.post(
                scenario, gateway.port, Self.path, file: file + ".gz", json + ["-H", "Content-Encoding: gzip", "--compressed"])
            for answer in [asked, sent] {
                #expect(answer.status == 200)
                #expect(answer.body == "{}")
                #expect(answer.head.contains("Content-Encoding: gzip\r\n"))
            }
            let proto = try Curl.post(
                scenario, gateway.port, Self.path, file: "/dev/null", ["-H", "Content-Type: application/proto", "--compressed"])
            #expect(proto.status == 200)
            #expect(!proto.head.contains("Content-Encoding"))
        }
    }

    /// Malformed bodies with their type, and the beginning of the error's message.
    static let malformed: [(String, [UInt8], String)] = [
        ("application/proto", [0x0A, 5, 0x0A], "unmarshal message: a field is longer than its message"),
        (
            "application/proto", [0x0A, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1],
            "unmarshal message: a field is longer than its message"
        ),
        ("application/proto", [0x0A], "unmarshal message: the message ends inside a number"),
        ("application/proto", [0, 0], "unmarshal message: a field number out of range"),
        ("application/proto", Array("{}".utf8), "unmarshal message: "),
        ("application/json", [0x0A, 0], "unmarshal message: "),
        ("application/json", Array("{\"series\":[{}".utf8), "unmarshal message: "),
        (
            "application/json", Array("{\"series\":[{\"labels\":[{\"name\":\"a\"},{\"name\":\"a\"}]}]}".utf8),
            "unmarshal message: duplicate label \"a\""
        ),
        (
            "application/json", Array("{\"series\":[{\"samples\":[{\"rawProfile\":\"?\"}]}]}".utf8),
            "unmarshal message: rawProfile is no base64"
        ),
    ]

    @Test("A malformed message gets 400 invalid_argument with the reason, and the connection stays open", arguments: malformed)
    func unreadable(type: String, body: [UInt8], message: String) throws {
        try run { _, gateway in
            let connection = try RawConnection(gateway.port)
            let answer = try connection.post(Self.path, bytes: body, headers: "Content-Type: \(type)\r\n")
            #expect(answer.status == 400)
            #expect(answer.code == "invalid_argument")
            #expect(answer.message.hasPrefix(message), "\(answer.message)")
            let plain = try connection.post(Self.path, bytes: body, headers: "Content-Type: \(type)\r\nContent-Encoding: gzip\r\n")
            #expect(plain.status == 400)
            #expect(plain.code == "invalid_argument")
            #expect(try connection.push([.numbered(1)]).status == 200)
            try gateway.waitForMetrics("the good one") { $0.accepted("console") == 1 && $0.delivered("console") == 1 }
        }
    }

    // MARK: Sizes

    /// A JSON message of exactly this many bytes.
    private static func message(of count: Int) -> String { "{\"x\":\"" + String(repeating: "x", count: count - 8) + "\"}" }

    @Test(
        "A body over max_body_size gets 429 resource_exhausted with both sizes", arguments: [(1023, true), (1024, true), (1025, false)])
    func bodySize(count: Int, isTaken: Bool) throws {
        try run(more: "\"limits\": { \"max_body_size\": \"1KiB\" },") { _, gateway in
            let headers = "Content-Type: application/json\r\n"
            let answer = try RawConnection(gateway.port).post(Self.path, Self.message(of: count), headers: headers)
            #expect(answer.status == (isTaken ? 200 : 429))
            #expect(answer.code == (isTaken ? nil : "resource_exhausted"))
            #expect(answer.message == (isTaken ? "" : "message size 1025 is larger than configured max 1024"))
            let chunked = try RawConnection(gateway.port)
            chunked.send("POST \(Self.path) HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\(headers)\r\n")
            chunked.send("\(String(count, radix: 16))\r\n\(Self.message(of: count))\r\n0\r\n\r\n")
            let second = try chunked.readResponse()
            #expect(second.status == answer.status)
            #expect(second.message == (isTaken ? "" : "message is larger than configured max 1024"))
        }
    }

    @Test(
        "A message that inflates beyond max_decompressed_size gets 429 resource_exhausted",
        arguments: [(4095, true), (4096, true), (4097, false)])
    func decompressedSize(count: Int, isTaken: Bool) throws {
        try run(more: "\"limits\": { \"max_decompressed_size\": \"4KiB\" },") { scenario, gateway in
            let file = try scenario.write(Self.message(of: count), to: "message.json")
            try scenario.start(["gzip", file]).waitForExit()
            let answer = try Curl.post(
                scenario, gateway.port, Self.path, file: file + ".gz",
                ["-H", "Content-Type: application/json", "-H", "Content-Encoding: gzip"])
            #expect(answer.status == (isTaken ? 200 : 429))
            if !isTaken {
                #expect(answer.body == #"{"code":"resource_exhausted","message":"message is larger than configured max 4096"}"#)
            }
        }
    }
}
