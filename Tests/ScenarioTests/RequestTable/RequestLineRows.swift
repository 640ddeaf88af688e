@testable import TestSupport

/// Method, target and version (RFC 9112 §2.3 and §3).
extension RequestRow {
    static let targets: [RequestRow] = [
        .init("absolute-form with the same host", target("http://a/ingest?name=a"), "200 keeps"),
        .init("absolute-form in odd case", target("HTTP://A/ingest?name=a"), "200 keeps"),
        .init("absolute-form with https", target("https://a/ingest?name=a"), "200 keeps"),
        .init(
            "absolute-form and HTTP/1.0 without a host", raw("POST http://a/ingest?name=a HTTP/1.0", "Content-Length: 3", then: profile),
            "200 closes"),
        .init(
            "absolute-form with another host", target("http://b/ingest?name=a"), "400 closes", nginx: "200",
            "stricter: RFC 9112 §3.2.2 prefers the target, and others may not"),
        .init(
            "absolute-form with another port", target("http://a:80/ingest?name=a"), "400 closes", nginx: "200",
            "stricter: RFC 9112 §3.2.2 prefers the target, and others may not"),
        .init(
            "absolute-form without a host field", raw("POST http://a/ingest?name=a HTTP/1.1", "Content-Length: 3", then: profile),
            "400 closes"),
        .init("absolute-form with userinfo", target("http://u:p@a/ingest?name=a"), "400 closes"),
        .init(
            "absolute-form with userinfo that Host repeats", first("POST http://u@a/ingest?name=a HTTP/1.1", host: "Host: u@a"),
            "400 closes"),
        .init(
            "absolute-form with userinfo and no Host", raw("POST http://u@a/ingest?name=a HTTP/1.0", "Content-Length: 3", then: profile),
            "400 closes"),
        .init(
            "absolute-form with a backslash", raw("POST http://a\\b/ingest?name=a HTTP/1.0", "Content-Length: 3", then: profile),
            "400 closes"),
        .init(
            "absolute-form with a bad port", raw("POST http://a:b/ingest?name=a HTTP/1.0", "Content-Length: 3", then: profile), "400 closes"
        ),
        .init("absolute-form that names no host", first("POST http:///ingest?name=a HTTP/1.1", host: "Host:"), "400 closes"),
        .init("absolute-form with one slash", target("http:/ingest?name=a"), "400 closes"),
        .init("absolute-form without a path", target("http://a?name=a"), "404 keeps"),
        .init(
            "absolute-form of another scheme", target("ftp://a/ingest?name=a"), "400 closes", nginx: "200",
            "stricter: it names no resource of ours, RFC 9110 §7.4"),
        .init("CONNECT and authority-form", first("CONNECT a:80 HTTP/1.1", host: "Host: a:80"), "400 closes"),
        .init("CONNECT and a path", first("CONNECT /ingest?name=a HTTP/1.1"), "405 keeps"),
        .init("POST and authority-form", target("a:80"), "400 closes"),
        .init(
            "OPTIONS and asterisk-form", first("OPTIONS * HTTP/1.1"), "404 keeps", nginx: "400",
            "more lenient: a form of its own, RFC 9112 §3.2.4"),
        .init("POST and asterisk-form", target("*"), "400 closes"),
        .init("a target without a slash", target("ingest?name=a"), "400 closes"),
        .init("a target that is a query", target("?name=a"), "400 closes"),
        .init("a backslash for a slash", target("\\ingest?name=a"), "400 closes"),
        .init("no target", first("POST  HTTP/1.1"), "400 closes"),
        .init("a fragment in the target", target("/ingest?name=a#b"), "400 closes"),
        .init("a space in the target", target("/ingest?name=a b"), "400 closes"),
        .init("a tab in the target", target("/ingest?name=a\tb"), "400 closes"),
        .init("a NUL in the target", target("/ingest?name=a\0b"), "400 closes"),
        .init("a control character in the target", target("/ingest?name=a\u{1}b"), "400 closes"),
        .init("a DEL in the target", target("/ingest?name=a\u{7f}b"), "400 closes"),
        .init("a byte above 127 in the path", target("/ing\u{e4}st?name=a"), "404 keeps"),
        .init("braces in the target", target("/ingest?name=a{b=c}"), "200 keeps"),
    ]

    static let versions: [RequestRow] = [
        .init("HTTP/1.0", first("POST /ingest?name=a HTTP/1.0"), "200 closes"),
        .init("HTTP/1.0 that stays", first("POST /ingest?name=a HTTP/1.0", "Connection: Keep-Alive"), "200 keeps"),
        .init("HTTP/1.0 that would stay and close", first("POST /ingest?name=a HTTP/1.0", "Connection: keep-alive, close"), "200 closes"),
        .init("HTTP/1.0 without a host", first("POST /ingest?name=a HTTP/1.0", host: "X: y"), "200 closes"),
        .init("HTTP/1.0 without a length", raw("POST /ingest?name=a HTTP/1.0", "Host: a", then: profile), "200 closes"),
        .init("HTTP/1.2", first("POST /ingest?name=a HTTP/1.2"), "200 keeps"),
        .init("HTTP/1.9", first("POST /ingest?name=a HTTP/1.9"), "200 keeps"),
        .init("HTTP/1.10", first("POST /ingest?name=a HTTP/1.10"), "400 closes", nginx: "200", oneDigit),
        .init("HTTP/1.01", first("POST /ingest?name=a HTTP/1.01"), "400 closes", nginx: "200", oneDigit),
        .init("HTTP/01.1", first("POST /ingest?name=a HTTP/01.1"), "400 closes"),
        .init("HTTP/2.0", first("POST /ingest?name=a HTTP/2.0"), "505 closes"),
        .init("HTTP/3.0", first("POST /ingest?name=a HTTP/3.0"), "505 closes"),
        .init("HTTP/0.9 as a version", first("POST /ingest?name=a HTTP/0.9"), "505 closes", nginx: "400", notSpoken),
        .init("HTTP/1", first("POST /ingest?name=a HTTP/1"), "400 closes"),
        .init("HTTP/1.", first("POST /ingest?name=a HTTP/1."), "400 closes"),
        .init("HTTP/1,1", first("POST /ingest?name=a HTTP/1,1"), "400 closes"),
        .init("HTTP/x.1", first("POST /ingest?name=a HTTP/x.1"), "400 closes"),
        .init("HTTP/-1.1", first("POST /ingest?name=a HTTP/-1.1"), "400 closes"),
        .init("http/1.1", first("POST /ingest?name=a http/1.1"), "400 closes"),
        .init("HTTPS/1.1", first("POST /ingest?name=a HTTPS/1.1"), "400 closes"),
        .init("HTTP and a space", first("POST /ingest?name=a HTTP 1.1"), "400 closes"),
        .init(
            "no version, as in HTTP/0.9", "GET /ingest?name=a\r\n", "400 closes", nginx: "0",
            "stricter: a request line has a version, RFC 9112 §3"),
        .init(
            "no version, and fields", first("POST /ingest?name=a"), "400 closes", nginx: "0",
            "stricter: a request line has a version, RFC 9112 §3"),
        .init("a method alone", first("POST"), "400 closes"),
        .init("a space after the version", first("POST /ingest?name=a HTTP/1.1 "), "400 closes", nginx: "200", oneSpace),
        .init("two spaces before the target", first("POST  /ingest?name=a HTTP/1.1"), "400 closes", nginx: "200", oneSpace),
        .init("two spaces after the target", first("POST /ingest?name=a  HTTP/1.1"), "400 closes", nginx: "200", oneSpace),
        .init("a space before the method", first(" POST /ingest?name=a HTTP/1.1"), "400 closes"),
        .init("tabs for spaces", first("POST\t/ingest?name=a\tHTTP/1.1"), "400 closes"),
        .init("a no-break space for a space", first("POST\u{a0}/ingest?name=a HTTP/1.1"), "400 closes"),
        .init(
            "a method in lower case", first("post /ingest?name=a HTTP/1.1"), "405 keeps", nginx: "400",
            "more lenient: a method is any token, RFC 9110 §9.1"),
        .init("a method that nobody knows", first("BREW /ingest?name=a HTTP/1.1"), "405 keeps"),
        .init(
            "a method of all token characters", first("!#$%&'*+-.^_`|~09azAZ /ingest?name=a HTTP/1.1"), "405 keeps", nginx: "400",
            "more lenient: a method is any token, RFC 9110 §9.1"),
        .init("a method with a parenthesis", first("PO(ST /ingest?name=a HTTP/1.1"), "400 closes"),
        .init("a method with a colon", first("POST: /ingest?name=a HTTP/1.1"), "400 closes"),
        .init("a method with a NUL", first("PO\0ST /ingest?name=a HTTP/1.1"), "400 closes"),
        .init("no method", first(" /ingest?name=a HTTP/1.1"), "400 closes"),
        .init("the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "505 closes", nginx: "400", notSpoken),
        .init(
            "the preface of HTTP/2 and its SETTINGS", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\u{4}\0\0\0\0\0", "505 closes", nginx: "400",
            notSpoken),
    ]

    // The reasons why nginx differs.
    private static let oneDigit = "stricter: a version has one digit on either side, RFC 9112 §2.3"
    private static let notSpoken = "another status: it is the version that is not spoken, RFC 9110 §15.6.6"
    private static let oneSpace = "stricter: one space is between the parts, and RFC 9112 §3 permits to insist"
}
