@testable import TestSupport

/// The end of a body (RFC 9112 §6).
extension RequestRow {
    static let lengths: [RequestRow] = [
        .init("a length", post("Content-Length: 3"), "200 keeps"),
        .init("a length of zero", post("Content-Length: 0", then: ""), "200 keeps"),
        .init("no length is no body", post(then: ""), "200 keeps"),
        .init("no length, but a body", post(), "200 400 closes"),
        .init("a length with leading zeros", post("Content-Length: 0003"), "200 keeps"),
        .init(
            "a length between tabs and spaces", post("Content-Length:\t 3 \t"), "200 keeps", nginx: "400",
            "more lenient: a tab is white space, RFC 9110 §5.6.3"),
        .init("a length without a space before it", post("Content-Length:3"), "200 keeps"),
        .init("a length under a name in lower case", post("content-length: 3"), "200 keeps"),
        .init("a length under a name in odd case", post("cONTENT-lENGTH: 3"), "200 keeps"),
        .init("two lengths that agree", post("Content-Length: 3", "Content-Length: 3"), "400 closes"),
        .init("two lengths that differ", post("Content-Length: 3", "Content-Length: 0"), "400 closes"),
        .init("two lengths, one in lower case", post("Content-Length: 0", "content-length: 3"), "400 closes"),
        .init("two lengths, one empty", post("Content-Length: 3", "Content-Length:"), "400 closes"),
        .init("two lengths far apart", post("Content-Length: 3", "X: y", "Y: z", "Content-Length: 3"), "400 closes"),
        .init("a list of lengths that agree", post("Content-Length: 3, 3"), "400 closes"),
        .init("a list of lengths that differ", post("Content-Length: 3, 4"), "400 closes"),
        .init("a length and a comma", post("Content-Length: 3,"), "400 closes"),
        .init("a comma and a length", post("Content-Length: ,3"), "400 closes"),
        .init("an empty length", post("Content-Length:"), "400 closes"),
        .init("a length with a plus", post("Content-Length: +3"), "400 closes"),
        .init("a length with a minus", post("Content-Length: -3"), "400 closes"),
        .init("minus zero as a length", post("Content-Length: -0", then: ""), "400 closes"),
        .init("a hexadecimal length", post("Content-Length: 0x3"), "400 closes"),
        .init("a hexadecimal digit as a length", post("Content-Length: a"), "400 closes"),
        .init("a length in two pieces", post("Content-Length: 3 3"), "400 closes"),
        .init("a length with a fraction", post("Content-Length: 3.0"), "400 closes"),
        .init("a length with an exponent", post("Content-Length: 3e0"), "400 closes"),
        .init("a length with a parameter", post("Content-Length: 3;q=1"), "400 closes"),
        .init("a quoted length", post("Content-Length: \"3\""), "400 closes"),
        .init("a superscript three as a length", post("Content-Length: \u{b3}"), "400 closes"),
        .init("a vertical tab before a length", post("Content-Length: \u{b}3"), "400 closes"),
        .init("a NUL after a length", post("Content-Length: 3\0"), "400 closes"),
        .init("a length of 2^32 + 3", post("Content-Length: 4294967299"), "413 closes"),
        .init("the largest length that is read", post("Content-Length: 999999999999999999"), "413 closes"),
        .init("a length of 2^63 + 3", post("Content-Length: 9223372036854775811"), "400 closes"),
        .init("a length of 2^64 + 3", post("Content-Length: 18446744073709551619"), "400 closes"),
        .init("a length of 200 digits", post("Content-Length: " + times(200, "9")), "400 closes"),
        .init(
            "a length of 19 digits, most of them zeros", post("Content-Length: 0000000000000000003"), "400 closes", nginx: "200",
            "stricter: 18 digits hold any size, RFC 9110 §8.6"),
        .init("a space before the colon of a length", post("Content-Length : 3"), "400 closes"),
        .init("a tab before the colon of a length", post("Content-Length\t: 3"), "400 closes"),
        .init("a NUL in the name of a length", post("Content-\0Length: 3"), "400 closes"),
        .init("a length by a name with an underscore", post("Content_Length: 3", then: ""), "200 keeps"),
        .init("a length that Connection names", with("Connection: Content-Length"), "200 keeps"),
        .init("a body that is a whole request", with(body: another), "200 keeps"),
        .init("a request right behind a body", post("Content-Length: 3", then: profile + another), "200 200 keeps"),
        .init("a body one byte longer than its length", post("Content-Length: 3", then: profile + "\u{1}"), "200 400 closes"),
        .init("a body one byte shorter than its length", post("Content-Length: 4"), "200 405 closes"),
        .init("a length of zero before a whole request", post("Content-Length: 0", then: another), "200 200 keeps"),
    ]

    /// A POST with these fields and a body of one chunk.
    private static func coding(_ fields: String...) -> String {
        line + (["Host: a"] + fields).joined(separator: "\r\n") + "\r\n\r\n3\r\na 1\r\n0\r\n\r\n"
    }

    static let codings: [RequestRow] = [
        .init("chunked", coding("Transfer-Encoding: chunked"), "200 keeps"),
        .init("chunked in odd case", coding("transfer-ENCODING: cHuNkEd"), "200 keeps"),
        .init(
            "chunked between tabs", coding("Transfer-Encoding:\tchunked\t"), "200 keeps", nginx: "501",
            "more lenient: a tab is white space, RFC 9110 §5.6.3"),
        .init("chunked and a length", coding("Transfer-Encoding: chunked", "Content-Length: 3"), "400 closes"),
        .init("a length and chunked", coding("Content-Length: 18", "Transfer-Encoding: chunked"), "400 closes"),
        .init("a length of zero and chunked", coding("Content-Length: 0", "Transfer-Encoding: chunked"), "400 closes"),
        .init("a malformed length and chunked", coding("Content-Length: x", "Transfer-Encoding: chunked"), "400 closes"),
        .init("chunked twice in a list", coding("Transfer-Encoding: chunked, chunked"), "400 closes", nginx: "501", manyCodings),
        .init("chunked twice in two lines", coding("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"), "400 closes"),
        .init("identity, then chunked", coding("Transfer-Encoding: identity, chunked"), "400 closes", nginx: "501", manyCodings),
        .init("chunked, then identity", coding("Transfer-Encoding: chunked, identity"), "400 closes", nginx: "501", manyCodings),
        .init(
            "a line of identity, a line of chunked", coding("Transfer-Encoding: identity", "Transfer-Encoding: chunked"), "501 closes",
            nginx: "400", "another status: the first line is not understood, RFC 9112 §6.1"),
        .init("a line of chunked, a line of identity", coding("Transfer-Encoding: chunked", "Transfer-Encoding: identity"), "400 closes"),
        .init("chunked, an empty line of codings", coding("Transfer-Encoding: chunked", "Transfer-Encoding:"), "400 closes"),
        .init("gzip, then chunked", coding("Transfer-Encoding: gzip, chunked"), "400 closes", nginx: "501", manyCodings),
        .init("chunked that is not last", coding("Transfer-Encoding: chunked, gzip"), "400 closes", nginx: "501", manyCodings),
        .init("gzip alone", coding("Transfer-Encoding: gzip"), "501 closes"),
        .init("identity alone", coding("Transfer-Encoding: identity"), "501 closes"),
        .init("identity and a length", with("Transfer-Encoding: identity"), "501 closes"),
        .init("xchunked", coding("Transfer-Encoding: xchunked"), "501 closes"),
        .init("chunkedx", coding("Transfer-Encoding: chunkedx"), "501 closes"),
        .init("chunked with a parameter", coding("Transfer-Encoding: chunked;q=1"), "501 closes"),
        .init("chunked in quotes", coding("Transfer-Encoding: \"chunked\""), "501 closes"),
        .init("chunked in two pieces", coding("Transfer-Encoding: chun ked"), "501 closes"),
        .init("chunked and a comma", coding("Transfer-Encoding: chunked,"), "400 closes", nginx: "501", manyCodings),
        .init("a comma and chunked", coding("Transfer-Encoding: ,chunked"), "400 closes", nginx: "501", manyCodings),
        .init("an empty coding", coding("Transfer-Encoding:"), "400 closes", nginx: "501", manyCodings),
        .init("a vertical tab before chunked", coding("Transfer-Encoding: \u{b}chunked"), "400 closes", nginx: "501", manyCodings),
        .init("a no-break space after chunked", coding("Transfer-Encoding: chunked\u{a0}"), "501 closes"),
        .init("a NUL after chunked", coding("Transfer-Encoding: chunked\0"), "400 closes"),
        .init("chunked on a folded line", coding("Transfer-Encoding:\r\n chunked"), "400 closes"),
        .init("a space before the colon of a coding", coding("Transfer-Encoding : chunked"), "400 closes"),
        .init("a space before the name of a coding", coding("X: y", " Transfer-Encoding: chunked"), "400 closes"),
        .init("chunked behind a bare CR", coding("X: y\rTransfer-Encoding: chunked"), "400 closes"),
        .init("chunked behind a bare LF", coding("X: y\nTransfer-Encoding: chunked"), "400 closes", nginx: "200", bareLineFeed),
        .init("chunked by a name with an underscore", post("Transfer_Encoding: chunked", then: ""), "200 keeps"),
        .init("chunked that only TE names", with("TE: chunked"), "200 keeps"),
        .init("chunked that Connection names", coding("Connection: Transfer-Encoding", "Transfer-Encoding: chunked"), "200 keeps"),
        .init(
            "chunked in HTTP/1.0",
            raw("POST /ingest?name=a HTTP/1.0", "Host: a", "Transfer-Encoding: chunked", then: "3\r\na 1\r\n0\r\n\r\n"), "400 closes"),
        .init(
            "chunked in HTTP/1.0 that stays",
            raw("POST /ingest?name=a HTTP/1.0", "Connection: keep-alive", "Transfer-Encoding: chunked", then: "0\r\n\r\n"), "400 closes"),
    ]

    // The reasons why nginx differs.
    private static let manyCodings = "another status: RFC 9112 §6.3 has 400 where chunked is not last, §6.1 has 501"
    static let bareLineFeed = "stricter: RFC 9112 §2.2 lets a bare LF pass, but not everybody does"
}
