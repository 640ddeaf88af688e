@testable import TestSupport

/// Methods, paths, names, tenants and connections (RFC 9110 §9, RFC 3986 §2.1, RFC 9112 §9).
extension RequestRow {
    /// A Push, in proto unless its fields say otherwise.
    private static func push(_ method: String = "POST", _ fields: String..., type: String = "application/proto", body: String = series)
        -> String
    {
        let lines = ["\(method) /push.v1.PusherService/Push HTTP/1.1", "Host: a", "Content-Type: \(type)"]
        return (lines + fields + ["Content-Length: \(body.utf8.count)"]).joined(separator: "\r\n") + "\r\n\r\n" + body
    }

    /// A PushRequest of one series with one sample.
    private static let series = "\n\u{5}\u{12}\u{3}\n\u{1}a"

    static let routes: [RequestRow] = [
        .init("GET", raw("GET /ingest?name=a HTTP/1.1", "Host: a"), "405 keeps"),
        .init("GET with a body", first("GET /ingest?name=a HTTP/1.1"), "405 keeps"),
        .init("GET with a body that is a whole request", first("GET /ingest?name=a HTTP/1.1", body: another), "405 keeps"),
        .init("HEAD", raw("HEAD /ingest?name=a HTTP/1.1", "Host: a"), "405 keeps"),
        .init("PUT", first("PUT /ingest?name=a HTTP/1.1"), "405 keeps"),
        .init("DELETE", first("DELETE /ingest?name=a HTTP/1.1"), "405 keeps"),
        .init("PATCH", first("PATCH /ingest?name=a HTTP/1.1"), "405 keeps"),
        .init("OPTIONS", raw("OPTIONS /ingest?name=a HTTP/1.1", "Host: a"), "405 keeps"),
        .init("TRACE", raw("TRACE /ingest?name=a HTTP/1.1", "Host: a"), "405 keeps"),
        .init("a chunked GET", "GET /ingest?name=a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "405 closes"),
        .init("the other path of ingest", target("/pyroscope/ingest?name=a"), "200 keeps"),
        .init("the root", target("/"), "404 keeps"),
        .init("an unknown path", target("/nowhere"), "404 keeps"),
        .init(
            "a chunked body for an unknown path", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "404 closes"),
        .init(
            "a large body for an unknown path", first("POST / HTTP/1.1", body: times(262_145, "x")), "404 closes", nginx: "413",
            "another status: nginx looks at the size first, RFC 9110 §15.5.14"),
        .init("a slash too many before", target("//ingest?name=a"), "200 keeps"),
        .init("a slash too many after", target("/ingest/?name=a"), "200 keeps"),
        .init("many slashes", target("///pyroscope////ingest//?name=a"), "200 keeps"),
        .init("a slash in the middle of a name", target("/in/gest?name=a"), "404 keeps"),
        .init("POST to readiness", target("/ready"), "405 keeps"),
        .init("a path up and down again", target("/x/../ingest?name=a"), "404 keeps"),
        .init("a path above the root", target("/../ingest?name=a"), "404 keeps", nginx: "400", asItStands),
        .init("a dot segment", target("/./ingest?name=a"), "404 keeps"),
        .init("a percent-encoded dot segment", target("/x/%2e%2e/ingest?name=a"), "404 keeps"),
        .init("a percent-encoded letter in the path", target("/%69ngest?name=a"), "404 keeps"),
        .init("a percent-encoded slash in the path", target("/pyroscope%2fingest?name=a"), "404 keeps"),
        .init("a percent-encoded NUL in the path", target("/ingest%00?name=a"), "404 keeps", nginx: "400", asItStands),
        .init("a path whose percent-encoding is none", target("/ingest%zz?name=a"), "404 keeps", nginx: "400", asItStands),
        .init("a path parameter", target("/ingest;x=y?name=a"), "404 keeps"),
        .init("a path in upper case", target("/INGEST?name=a"), "404 keeps"),
        .init("Push", push(), "200 keeps"),
        .init("GET on Push", push("GET"), "405 keeps"),
        .init("Push with another type", push(type: "text/plain"), "415 keeps"),
        .init("Push with another compression", push("POST", "Content-Encoding: br"), "501 keeps"),
        .init("Push that is no gzip", push("POST", "Content-Encoding: gzip"), "400 keeps"),
        .init("Push that is no proto", push(body: "\u{7f}"), "400 keeps"),
        .init(
            "Push over max_body_size", push(body: times(maximumBody + 1, "x")), "429 closes", nginx: "413",
            "another status: it is Connect's for resource_exhausted, RFC 9110 §15.5.14"),
    ]

    static let names: [RequestRow] = [
        .init("no query", target("/ingest"), "400 keeps"),
        .init("an empty query", target("/ingest?"), "400 keeps"),
        .init("no name", target("/ingest?nam=a"), "400 keeps"),
        .init("an empty name", target("/ingest?name="), "400 keeps"),
        .init("a name in upper case", target("/ingest?NAME=a"), "400 keeps"),
        .init("a percent-encoded name", target("/ingest?name=%61%7Bb%3dc%7d"), "200 keeps"),
        .init("a percent sign", target("/ingest?name=%"), "400 keeps"),
        .init("half a percent-encoding", target("/ingest?name=a%4"), "400 keeps"),
        .init("a percent-encoding that is none", target("/ingest?name=a%zz"), "400 keeps"),
        .init("a percent-encoding with a sign", target("/ingest?name=a%+1"), "400 keeps"),
        .init("a percent-encoded NUL", target("/ingest?name=a%00"), "400 keeps"),
        .init("a percent-encoded CRLF", target("/ingest?name=a%0d%0aX:%20y"), "400 keeps"),
        .init("a percent-encoded byte that is no UTF-8", target("/ingest?name=a%7Bb=%ff%7D"), "400 keeps"),
        .init("a byte that is no UTF-8 in the query", target("/ingest?name=a&x=\u{ff}"), "400 keeps"),
        .init("a plus in the name", target("/ingest?name=a+b"), "400 keeps"),
        .init("two names", target("/ingest?name=a&name=b"), "200 keeps"),
        .init("two names, the first empty", target("/ingest?name=&name=b"), "400 keeps"),
        .init("a second question mark", target("/ingest?name=a?x=y"), "400 keeps"),
        .init("a tenant", with("X-Scope-OrgID: team-a"), "200 keeps"),
        .init("an empty tenant", with("X-Scope-OrgID:"), "200 keeps"),
        .init("a tenant of 150 bytes", with("X-Scope-OrgID: \(times(150, "t"))"), "200 keeps"),
        .init("a tenant of 151 bytes", with("X-Scope-OrgID: \(times(151, "t"))"), "400 keeps"),
        .init("two tenants", with("X-Scope-OrgID: a", "X-Scope-OrgID: b"), "400 keeps"),
        .init("a list of tenants", with("X-Scope-OrgID: a|b"), "400 keeps"),
        .init("a tenant that is a path", with("X-Scope-OrgID: ../a"), "400 keeps"),
    ]

    static let connections: [RequestRow] = [
        .init("close", with("Connection: close"), "200 closes"),
        .init("close in upper case", with("Connection: CLOSE"), "200 closes"),
        .init("close in a list", with("Connection: te , close"), "200 closes"),
        .init("close in a second line", with("Connection: te", "Connection: close"), "200 closes"),
        .init("close and keep-alive", with("Connection: close, keep-alive"), "200 closes"),
        .init("close with empty list elements", with("Connection: ,, close ,"), "200 closes"),
        .init("closed", with("Connection: closed"), "200 keeps"),
        .init("close for an unknown path", target("/nowhere", "Connection: close"), "404 closes"),
        .init("a whole request behind close", with("Connection: close") + another, "200 closes"),
        .init("garbage behind close", with("Connection: close") + "\0\u{ff}\r\n\r\n", "200 closes"),
        .init("a whole request behind a refusal", post("Content-Length: 3, 3") + another, "400 closes"),
        .init("an upgrade to h2c", with("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk"), "200 keeps"),
        .init("an upgrade to websocket", raw("GET /ingest HTTP/1.1", "Host: a", "Connection: Upgrade", "Upgrade: websocket"), "405 keeps"),
        .init("Proxy-Connection", with("Proxy-Connection: close"), "200 keeps"),
        .init("Keep-Alive", with("Keep-Alive: timeout=1, max=1"), "200 keeps"),
        .init("a hundred requests in one piece", times(100, with()), times(100, "200 ") + "keeps"),
    ]

    /// Bytes that are not HTTP.
    static let strangers: [RequestRow] = [
        .init("a TLS ClientHello", "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\u{fc}\u{3}\u{3}" + times(506, "\u{e7}"), "400 closes"),
        .init("a TLS ClientHello of SSL 2", "\u{80}\u{2e}\u{1}\0\u{2}" + times(41, "\u{e7}"), "400 closes"),
        .init("SSH", "SSH-2.0-OpenSSH_9.2\r\n", "400 closes"),
        .init("SMTP", "EHLO a\r\n", "400 closes"),
        .init("SOCKS 5", "\u{5}\u{1}\0", "400 closes"),
        .init("Redis", "*1\r\n$4\r\nPING\r\n", "400 closes"),
        .init("the PROXY protocol", "PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n" + with(), "400 closes"),
        .init("the PROXY protocol, version 2", "\r\n\r\n\0\r\nQUIT\n\u{20}\0\0\0" + with(), "400 closes"),
        .init("an answer instead of a request", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "400 closes"),
        .init("JSON", "{\"a\": 1}\r\n\r\n", "400 closes"),
        .init("NULs", times(64, "\0"), "400 closes"),
        .init("bytes above 127", times(64, "\u{ff}"), "400 closes"),
        .init("words", "hello world\r\n\r\n", "400 closes"),
    ]

    // The reasons why nginx differs.
    private static let asItStands = "another status: a path is compared as it stands, RFC 3986 §6.2.1"
}
