import LinuxSystem
import PushWire

/// Where a command sends profiles: the server of `--to`, and what `--header` and `--tenant` say in every request.
struct Destination {
    typealias Headers = [(name: String, value: String)]

    /// The options that make one.
    static let options = Arguments.headerOptions.union(["--to", "--tenant"])
    static let tenantHeader = "X-Scope-OrgID"

    private let server: String
    private var headers: Headers
    /// What the command line brought, for a server may repeat it.
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

    /// What to tell of an answer, and whether it is a gateway's or a Pyroscope's 200.
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
    /// What the server said, on one line for people; empty, or with a blank before it.
    func words(_ secrets: KnownSecrets) -> String {
        let words = secrets.cut(from: media.body, most: 4096).prefix(4096)
        return words.isEmpty ? "" : " " + printable(String(decoding: words, as: UTF8.self))
    }
}

extension KnownSecrets {
    /// Those of headers that somebody gave: the values, and what follows a scheme.
    init(of headers: Destination.Headers) {
        self.init(headers.flatMap { [$0.value] + $0.value.split(separator: " ", maxSplits: 1).dropFirst().map(String.init) })
    }
}
