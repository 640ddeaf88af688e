import ConfigJSON
import LinuxSystem

/// One HTTP answer; the connection adds Date, Content-Length and Connection.
package struct Response: Sendable {
    package var status: Int
    package var headers: [(name: String, value: String)] = []
    package var body: [UInt8] = []
    /// The status that is counted and logged, when a protocol sends it inside a 200.
    package var outcome: Int?
    /// What follows `body` until the connection closes; nil for an answer that ends with its body.
    package var feed: Feed?

    package init(status: Int, headers: [(name: String, value: String)] = [], body: [UInt8] = [], outcome: Int? = nil) {
        self.status = status
        self.headers = headers
        self.body = body
        self.outcome = outcome
    }

    package static let ok = Response(status: 200)

    /// An error as Pyroscope writes it: `{"code":"invalid_argument","message":"…"}`.
    package static func error(_ status: Int, _ message: String) -> Response {
        let body = "{\"code\":\"\(code(of: status))\",\"message\":\(JSONValue.quoted(message))}"
        var headers = [("Content-Type", "application/json"), ("X-Content-Type-Options", "nosniff")]
        if status == 503 { headers.append(("Retry-After", "1")) }
        return Response(status: status, headers: headers, body: Array(body.utf8))
    }

    /// The answer to a method other than those that the path has (RFC 9110 §15.5.6).
    package static func wrongMethod(use methods: String, _ text: String) -> Response {
        var response = error(405, text)
        response.headers.append(("Allow", methods))
        return response
    }

    /// The answer to whoever asks whether the process serves.
    package static let healthy = text(200, "healthy\n")

    /// The answer to whoever asks whether requests may be sent here.
    package static func readiness(_ isReady: Bool) -> Response {
        isReady ? text(200, "ready\n") : error(503, "the gateway is starting or draining")
    }

    package static func text(_ status: Int, _ text: String, type: String = "text/plain; charset=utf-8") -> Response {
        Response(status: status, headers: [("Content-Type", type)], body: Array(text.utf8))
    }

    /// The Connect code that Pyroscope's `/ingest` writes for a status.
    private static func code(of status: Int) -> String {
        switch status {
        case 400, 411, 413, 414, 417, 431: "invalid_argument"
        case 401: "unauthenticated"
        case 403: "permission_denied"
        case 404: "not_found"
        case 429: "resource_exhausted"
        case 501: "unimplemented"
        case 503: "unavailable"
        case 504: "deadline_exceeded"
        case 500: "internal"
        default: "unknown"
        }
    }

    /// The reason phrases of RFC 9110 §15.
    package static func reason(_ status: Int) -> String {
        switch status {
        case 200: "OK"
        case 400: "Bad Request"
        case 401: "Unauthorized"
        case 403: "Forbidden"
        case 404: "Not Found"
        case 405: "Method Not Allowed"
        case 408: "Request Timeout"
        case 413: "Content Too Large"
        case 414: "URI Too Long"
        case 415: "Unsupported Media Type"
        case 417: "Expectation Failed"
        case 422: "Unprocessable Content"
        case 429: "Too Many Requests"
        case 431: "Request Header Fields Too Large"
        case 500: "Internal Server Error"
        case 501: "Not Implemented"
        case 502: "Bad Gateway"
        case 503: "Service Unavailable"
        case 504: "Gateway Timeout"
        case 505: "HTTP Version Not Supported"
        default: "Status"
        }
    }

    /// The bytes of the answer, in one array so that they are sent with one write.
    ///
    /// - Parameter withBody: false for a HEAD request, whose answer has the Content-Length but no body.
    func serialized(date: String, keepAlive: Bool, minorVersion: UInt8, withBody: Bool) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(headers.reduce(160 + body.count) { $0 + $1.name.utf8.count + $1.value.utf8.count + 4 })
        bytes.append(utf8: "HTTP/1.1 ")
        bytes.append(decimal: status)
        bytes.append(utf8: " ")
        bytes.append(utf8: Self.reason(status))
        bytes.append(utf8: "\r\nDate: ")
        bytes.append(utf8: date)
        if feed == nil {
            bytes.append(utf8: "\r\nContent-Length: ")
            bytes.append(decimal: body.count)
        }
        for header in headers {
            bytes.append(utf8: "\r\n")
            bytes.append(utf8: header.name)
            bytes.append(utf8: ": ")
            bytes.append(utf8: header.value)
        }
        if !keepAlive {
            bytes.append(utf8: "\r\nConnection: close")
        } else if minorVersion == 0 {
            bytes.append(utf8: "\r\nConnection: keep-alive")
        }
        bytes.append(utf8: "\r\n\r\n")
        if withBody { bytes += body }
        return bytes
    }
}
