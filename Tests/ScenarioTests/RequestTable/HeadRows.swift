@testable import TestSupport

/// Lines, fields and hosts (RFC 9112 §2.2, §3.2 and §5).
extension RequestRow {
    static let lineEnds: [RequestRow] = [
        .init("an empty line before the request", "\r\n" + with(), "200 keeps"),
        .init("as many empty lines as are ignored", times(16, "\r\n") + with(), "200 keeps"),
        .init(
            "an empty line more than is ignored", times(17, "\r\n") + with(), "400 closes", nginx: "200",
            "stricter: RFC 9112 §2.2 asks for one at least"),
        .init("an empty line between requests", with() + "\r\n" + another, "200 200 keeps"),
        .init("a bare LF before the request", "\n" + with(), "400 closes", nginx: "200", bareLineFeed),
        .init("a bare CR before the request", "\r" + with(), "400 closes", nginx: "200", bareReturn),
        .init("LF CR before the request", "\n\r" + with(), "400 closes", nginx: "200", bareReturn),
        .init(
            "a bare LF after the request line", "POST /ingest?name=a HTTP/1.1\nHost: a\r\nContent-Length: 0\r\n\r\n", "400 closes",
            nginx: "200", bareLineFeed),
        .init("a bare CR after the request line", "POST /ingest?name=a HTTP/1.1\rHost: a\r\nContent-Length: 0\r\n\r\n", "400 closes"),
        .init("CR CR LF after the request line", "POST /ingest?name=a HTTP/1.1\r\r\nHost: a\r\n\r\n", "400 closes"),
        .init("a bare LF after a field", line + "Host: a\nContent-Length: 0\r\n\r\n", "400 closes", nginx: "200", bareLineFeed),
        .init("CR CR LF after a field", line + "Host: a\r\r\nContent-Length: 0\r\n\r\n", "400 closes", nginx: "200", bareReturn),
        .init("a bare LF at the head's end", line + "Host: a\r\nContent-Length: 0\r\n\n", "400 closes", nginx: "200", bareLineFeed),
        .init("LF LF at the head's end", line + "Host: a\r\nContent-Length: 0\n\n", "400 closes", nginx: "200", bareLineFeed),
        .init("CR CR LF at the head's end", line + "Host: a\r\nContent-Length: 0\r\n\r\r\n", "400 closes"),
        .init("bare LFs alone", "POST /ingest?name=a HTTP/1.1\nHost: a\nContent-Length: 0\n\n", "400 closes", nginx: "200", bareLineFeed),
        .init("bare CRs alone", "POST /ingest?name=a HTTP/1.1\rHost: a\rContent-Length: 0\r\r", "400 closes"),
        .init("a bare CR in the method", first("PO\rST /ingest?name=a HTTP/1.1"), "400 closes"),
        .init("a bare CR in the target", target("/ingest?name=a\r"), "400 closes"),
        .init(
            "a bare LF in the target", target("/ingest?name=a\n"), "400 closes", nginx: "0",
            "stricter: a request line has a version, RFC 9112 §3"),
        .init("a bare CR in the version", first("POST /ingest?name=a HTTP/1\r.1"), "400 closes"),
        .init("a bare CR in a field name", with("X\rY: z"), "400 closes"),
        .init("a bare CR in a value", with("X: y\rz"), "400 closes"),
        .init("a bare LF in a value", with("X: y\nz"), "400 closes", nginx: "200", bareLineFeed),
        .init("a whole field behind a bare CR", with("X: y\rContent-Length: 3"), "400 closes"),
        .init("a field folded by a space", with("X: y", " z"), "400 closes"),
        .init("a field folded by a tab", with("X: y", "\tz"), "400 closes"),
        .init("a length folded in", post("X: y", " Content-Length: 3"), "400 closes"),
        .init(
            "a fold before the first field", raw("POST /ingest?name=a HTTP/1.1", " Host: a", "Content-Length: 3", then: profile),
            "400 closes"),
        .init("a line of one space", with("X: y", " "), "400 closes"),
    ]

    static let fields: [RequestRow] = [
        .init("a name of all token characters", with("!#$%&'*+-.^_`|~09azAZ: x"), "200 keeps"),
        .init("a field without a space after the colon", with("X:y"), "200 keeps"),
        .init("a field without a value", with("X:"), "200 keeps"),
        .init("a value with a tab", with("X: y\tz"), "200 keeps"),
        .init("a value with bytes above 127", with("X: \u{e4}\u{ff}"), "200 keeps"),
        .init("a value that looks like a field", with("X: Content-Length: 5"), "200 keeps"),
        .init("a space before a colon", with("X : y"), "400 closes"),
        .init("a tab before a colon", with("X\t: y"), "400 closes"),
        .init("a field without a colon", with("X"), "400 closes", nginx: "200", dropped),
        .init("a field without a name", with(": y"), "400 closes"),
        .init("a space in a name", with("X Y: z"), "400 closes"),
        .init("a parenthesis in a name", with("X(: y"), "400 closes", nginx: "200", dropped),
        .init("a quote in a name", with("\"X\": y"), "400 closes", nginx: "200", dropped),
        .init("a slash in a name", with("X/Y: z"), "400 closes", nginx: "200", dropped),
        .init("a NUL in a name", with("X\0: y"), "400 closes"),
        .init("a control character in a name", with("X\u{1}: y"), "400 closes"),
        .init("a DEL in a name", with("X\u{7f}: y"), "400 closes"),
        .init("a byte above 127 in a name", with("X\u{e4}: y"), "400 closes", nginx: "200", dropped),
        .init("a NUL in a value", with("X: y\0z"), "400 closes"),
        .init("a control character in a value", with("X: y\u{1}z"), "400 closes"),
        .init("an escape in a value", with("X: \u{1b}[31m"), "400 closes"),
        .init("a vertical tab in a value", with("X: y\u{b}z"), "400 closes"),
        .init("a DEL in a value", with("X: y\u{7f}z"), "400 closes"),
    ]

    static let hosts: [RequestRow] = [
        .init("a host with a port", host("Host: a.example:9999"), "200 keeps"),
        .init("a host with an empty port", host("Host: a:"), "200 keeps"),
        .init("an IPv4 host", host("Host: 127.0.0.1"), "200 keeps"),
        .init("an IPv6 host with a port", host("Host: [::1]:9999"), "200 keeps"),
        .init("a host with an underscore", host("Host: a_b"), "200 keeps"),
        .init("a percent-encoded host", host("Host: a%41"), "200 keeps"),
        .init("an empty host", host("Host:"), "200 keeps", nginx: "400", "more lenient: without an authority Host is empty, RFC 9112 §3.2"),
        .init("no host", host("X: y"), "400 closes"),
        .init("two hosts that agree", host("Host: a", "Host: a"), "400 closes"),
        .init("two hosts that differ", host("Host: a", "X: y", "host: b"), "400 closes"),
        .init(
            "two hosts in HTTP/1.0", raw("POST /ingest?name=a HTTP/1.0", "Host: a", "Host: b", "Content-Length: 3", then: profile),
            "400 closes"),
        .init("a list of hosts", host("Host: a, b"), "400 closes"),
        .init("a comma in a host", host("Host: a,b"), "400 closes"),
        .init("a space in a host", host("Host: a b"), "400 closes"),
        .init("a tab in a host", host("Host: a\tb"), "400 closes"),
        .init("a NUL in a host", host("Host: a\0b"), "400 closes"),
        .init("a path in a host", host("Host: a/b"), "400 closes"),
        .init("a backslash in a host", host("Host: a\\b"), "400 closes"),
        .init("a query in a host", host("Host: a?b"), "400 closes"),
        .init("a fragment in a host", host("Host: a#b"), "400 closes"),
        .init("userinfo in a host", host("Host: u@a"), "400 closes"),
        .init("a URL as a host", host("Host: http://a"), "400 closes"),
        .init("a port that is no number", host("Host: a:b"), "400 closes", nginx: "200", "stricter: a port is digits, RFC 3986 §3.2.3"),
        .init("two ports", host("Host: a:1:2"), "400 closes", nginx: "200", "stricter: a port is digits, RFC 3986 §3.2.3"),
        .init("a port without a host", host("Host: :9999"), "400 closes"),
        .init("an IPv6 host without brackets", host("Host: ::1"), "400 closes"),
        .init("an IPv6 host that does not close", host("Host: [::1"), "400 closes"),
        .init("an angle bracket in a host", host("Host: a<b"), "400 closes"),
        .init("a byte above 127 in a host", host("Host: \u{e4}"), "400 closes"),
        .init("a host whose percent-encoding is none", host("Host: a%4"), "400 closes"),
    ]

    // The reasons why nginx differs.
    private static let bareReturn = "stricter: a bare CR is invalid, RFC 9112 §2.2"
    private static let dropped = "stricter: nginx drops what is no field, RFC 9112 §5"
}
