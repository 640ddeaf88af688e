import LinuxSystem
import PushWire

/// Where a command sends profiles: the server of `--to`, and what `--header` and `--tenant` say in every request.
struct Destination {
    typealias Headers = [(name: String, value: String)]

    /// The options that make one.
    static let options: Set<String> = ["--to", "--tenant", "--header"]
    static let tenantHeader = "X-Scope-OrgID"

    private let server: String
    private var headers: Headers = []

    init(_ arguments: Arguments, for command: String) throws(UsageError) {
        guard var server = arguments.value("--to") else { throw UsageError("\(command) needs --to URL") }
        while server.hasSuffix("/") { server.removeLast() }
        self.server = server
        for header in arguments.values("--header") {
            guard let colon = header.firstIndex(of: ":") else {
                throw UsageError("--header needs \"Name: value\", is \(quotedForPeople(header))")
            }
            headers.append((String(header[..<colon]), String(header[header.index(after: colon)...].drop { $0 == " " })))
        }
        if let tenant = arguments.value("--tenant") { headers.append((Self.tenantHeader, tenant)) }
    }

    /// Posts to `/ingest`.
    ///
    /// - Parameter own: the request's headers; those that the command line names too are its instead.
    func ingest(
        query: String, _ own: Headers, body: RawSpan, by client: HTTPClient
    ) throws(HTTPClient.Failure) -> HTTPClient.Answer {
        try client.post(server + (query.isEmpty ? "/ingest" : "/ingest?\(query)"), headers: with(own), body: body)
    }

    /// Posts one series to the Push API, compressed where there is memory for it.
    func push(
        labels: [(name: String, value: String)], samples: [PushMessage.Sample], _ own: Headers = [], by client: HTTPClient
    ) throws -> HTTPClient.Answer {
        let message = try PushMessage(labels: labels, samples: samples)
        let headers = [(name: "Content-Type", value: "application/proto")] + own
        return try message.bytes.withBytes { plain throws(HTTPClient.Failure) in
            guard let compressed = unsafe Gzip.deflate(plain.bytes) else {
                return try unsafe client.post(server + PushEndpoint.path, headers: with(headers), body: plain.bytes)
            }
            return try compressed.withBytes { bytes throws(HTTPClient.Failure) in
                let headers = with(headers + [("Content-Encoding", "gzip")])
                return try unsafe client.post(server + PushEndpoint.path, headers: headers, body: bytes.bytes)
            }
        }
    }

    private func with(_ own: Headers) -> Headers {
        own.filter { header in !headers.contains { $0.name.lowercased() == header.name.lowercased() } } + headers
    }
}

extension HTTPClient.Answer {
    /// The status and what the server said, on one line for people.
    var line: String {
        let text = String(decoding: body.prefix(4096), as: UTF8.self)
        return "\(status) \(Response.reason(status))" + (text.isEmpty ? "" : " \(printable(text))")
    }
}
