import HTTPServer
import LinuxSystem
import ProfileAPI
import PushWire
import Telemetry

/// The server to which a command sends profiles (`--to`), and the headers of every request (`--header`, `--tenant`).
struct Destination {
    typealias Headers = [(name: String, value: String)]

    /// The options that describe a destination.
    static let options = Arguments.headerOptions.union(["--to", "--tenant"])
    static let tenantHeader = "X-Scope-OrgID"

    private let server: String
    private var headers: Headers
    /// The secrets from the command line, which a server may repeat.
    private let secrets: KnownSecrets

    init(_ arguments: Arguments, for command: String) throws(UsageError) {
        guard var server = arguments.value("--to") else { throw UsageError("\(command) needs --to URL") }
        while server.hasSuffix("/") { server.removeLast() }
        self.server = server
        headers = try arguments.headers()
        secrets = KnownSecrets(of: headers)
        if let tenant = arguments.value("--tenant") { headers.append((Self.tenantHeader, tenant)) }
        do throws(WrittenHead.Refusal) {
            try WrittenHead.check(target: server)
            for header in headers { try WrittenHead.check(header) }
        } catch { throw UsageError(error.reason) }
    }

    /// A line about a response, and whether it is a 200 of a gateway or a Pyroscope server.
    func told(_ answer: HTTPClient.Answer, isPush: Bool) -> (line: String, isDelivered: Bool) {
        let status = "\(answer.status) \(Response.reason(answer.status))"
        if let excess = answer.excess { return ("\(status), but the answer has \(excess)", false) }
        if answer.status == 200, let objection = answer.media.objection(isPush: isPush) {
            return ("\(status), but \(secrets.cut(from: objection))", false)
        }
        return (status + answer.words(secrets), answer.status == 200)
    }

    /// Posts to `/ingest`.
    ///
    /// - Parameter own: the request's headers; a header of the same name from the command line replaces one.
    func ingest(
        query: String, _ own: Headers, body: RawSpan, by client: HTTPClient
    ) throws(HTTPClient.Failure) -> HTTPClient.Answer {
        try client.post(server + (query.isEmpty ? "/ingest" : "/ingest?\(query)"), headers: with(own), body: body)
    }

    /// Posts one series to the Push API, compressed if there is enough memory.
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
    /// The server's message on one line, preceded by a space; or empty.
    func words(_ secrets: KnownSecrets) -> String {
        let words = secrets.cut(from: media.body, most: 4096).prefix(4096)
        return words.isEmpty ? "" : " " + printable(String(decoding: words, as: UTF8.self))
    }
}

extension KnownSecrets {
    /// The secrets in given headers: each value, and the part after an authentication scheme.
    init(of headers: Destination.Headers) {
        self.init(headers.flatMap { [$0.value] + $0.value.split(separator: " ", maxSplits: 1).dropFirst().map(String.init) })
    }
}
