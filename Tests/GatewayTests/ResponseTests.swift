import Testing

@testable import HTTPServer

@Suite("Responses")
struct ResponseTests {
    @Test(
        "The Connection header is left out only when an HTTP/1.1 connection is kept",
        arguments: [
            (true, 1, ""), (true, 0, "Connection: keep-alive\r\n"), (false, 1, "Connection: close\r\n"),
            (false, 0, "Connection: close\r\n"),
        ])
    func connection(keepAlive: Bool, minorVersion: UInt8, line: String) {
        let bytes = Response.ok.serialized(date: "D", keepAlive: keepAlive, minorVersion: minorVersion, withBody: true)
        #expect(String(decoding: bytes, as: UTF8.self) == "HTTP/1.1 200 OK\r\nDate: D\r\nContent-Length: 0\r\n\(line)\r\n")
    }

    @Test("A response to HEAD has the length but not the body", arguments: [(true, "hello"), (false, "")])
    func head(withBody: Bool, body: String) {
        let bytes = Response.text(200, "hello", type: "t").serialized(date: "D", keepAlive: true, minorVersion: 1, withBody: withBody)
        let head = "HTTP/1.1 200 OK\r\nDate: D\r\nContent-Length: 5\r\nContent-Type: t\r\n\r\n"
        #expect(String(decoding: bytes, as: UTF8.self) == head + body)
    }

    @Test(
        "An error is JSON with Pyroscope's code",
        arguments: [
            (400, "invalid_argument"), (401, "unauthenticated"), (403, "permission_denied"), (404, "not_found"), (408, "unknown"),
            (413, "invalid_argument"), (422, "unknown"), (429, "resource_exhausted"), (500, "internal"), (501, "unimplemented"),
            (503, "unavailable"), (504, "deadline_exceeded"),
        ])
    func error(status: Int, code: String) {
        let response = Response.error(status, "say \"no\"\r\n")
        #expect(String(decoding: response.body, as: UTF8.self) == #"{"code":"\#(code)","message":"say \"no\"\r\n"}"#)
        #expect(response.headers.map(\.name).prefix(2) == ["Content-Type", "X-Content-Type-Options"])
    }

    @Test("Only 503 has a Retry-After header", arguments: [400, 408, 500, 503, 504])
    func retryAfter(status: Int) {
        #expect(Response.error(status, "").headers.contains { $0.name == "Retry-After" } == (status == 503))
    }

    @Test(
        "Every status that the gateway sends has a reason phrase",
        arguments: [200, 400, 401, 403, 404, 405, 408, 413, 414, 415, 417, 422, 429, 431, 500, 501, 502, 503, 504, 505])
    func reason(status: Int) {
        #expect(Response.reason(status) != "Status")
    }
}
