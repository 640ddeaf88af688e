@testable import TestSupport

/// Sizes at and near their limits, and expectations (RFC 9110 §10.1.1).
extension RequestRow {
    /// A request line of 8 KiB plus `excess` bytes.
    private static func longLine(_ excess: Int) -> String {
        target("/ingest?name=a&x=" + times(8 * 1024 + excess - "POST /ingest?name=a&x= HTTP/1.1".utf8.count, "x"))
    }

    /// A head of 32 KiB plus `excess` bytes, in lines of about 1 KiB.
    private static func largeHead(_ excess: Int) -> String {
        let lines = times(31, "X: \(times(1019, "y"))\r\n")
        let rest = 32 * 1024 + excess - (line + "Host: a\r\nContent-Length: 3\r\n" + lines + "X: \r\n\r\n").utf8.count
        return line + "Host: a\r\nContent-Length: 3\r\n" + lines + "X: \(times(rest, "y"))\r\n\r\n" + profile
    }

    /// A request with this many fields.
    private static func manyFields(_ count: Int) -> String {
        line + "Host: a\r\nContent-Length: 3\r\n" + times(count - 2, "X: y\r\n") + "\r\n" + profile
    }

    /// A request whose body has this many bytes.
    private static func sized(_ size: Int) -> String { with(body: times(size, "x")) }

    /// A request whose chunked body has this many bytes.
    private static func chunkSized(_ size: Int) -> String {
        chunked("1F4\r\n\(times(500, "x"))\r\n\(String(size - 500, radix: 16))\r\n\(times(size - 500, "x"))\r\n0\r\n\r\n")
    }

    static let limits: [RequestRow] = [
        .init("a request line a byte below its limit", longLine(-1), "200 keeps"),
        .init("a request line at its limit", longLine(0), "200 keeps"),
        .init("a request line a byte above its limit", longLine(1), "414 closes"),
        .init("a request line far above its limit", longLine(30000), "414 closes"),
        .init("a head a byte below its limit", largeHead(-1), "200 keeps"),
        .init("a head at its limit", largeHead(0), "200 keeps"),
        .init("a head a byte above its limit", largeHead(1), "431 closes"),
        .init("a head far above its limit", with("X: \(times(40000, "y"))"), "431 closes", nginx: "400", "another status: RFC 6585 §5"),
        .init(
            "a field longer than a request line may be", with("X: \(times(9000, "y"))"), "200 keeps", nginx: "400",
            "more lenient: only the whole head is bounded, RFC 9110 §5.4"),
        .init("127 fields", manyFields(127), "200 keeps"),
        .init("128 fields", manyFields(128), "200 keeps"),
        .init("129 fields", manyFields(129), "431 closes"),
        .init("a body a byte below its limit", sized(maximumBody - 1), "200 keeps"),
        .init("a body at its limit", sized(maximumBody), "200 keeps"),
        .init("a body a byte above its limit", sized(maximumBody + 1), "413 closes"),
        .init("a body far above its limit", sized(100_000), "413 closes"),
        .init("a chunked body a byte below its limit", chunkSized(maximumBody - 1), "200 keeps"),
        .init("a chunked body at its limit", chunkSized(maximumBody), "200 keeps"),
        .init("a chunked body a byte above its limit", chunkSized(maximumBody + 1), "413 closes"),
        .init(
            "a chunk far above the limit", chunked("fffffffffffffff\r\n"), "413 closes", nginx: "400",
            "another status: it can be read and is too large, RFC 9110 §15.5.14"),
    ]

    static let expectations: [RequestRow] = [
        .init("100-continue", with("Expect: 100-continue"), "200 keeps"),
        .init("100-continue in odd case", with("expect: 100-CONTINUE"), "200 keeps"),
        .init(
            "100-continue twice", with("Expect: 100-continue", "Expect: 100-continue"), "200 keeps", nginx: "400",
            "more lenient: Expect is a list, RFC 9110 §10.1.1"),
        .init("100-continue and no body", with("Expect: 100-continue", body: ""), "200 keeps"),
        .init("100-continue in HTTP/1.0", first("POST /ingest?name=a HTTP/1.0", "Expect: 100-continue"), "200 closes"),
        .init("100-continue for a body that is too large", post("Expect: 100-continue", "Content-Length: 1001", then: ""), "413 closes"),
        .init("100-continue for an unknown path", target("/nowhere", "Expect: 100-continue"), "404 closes"),
        .init("another expectation", with("Expect: tea"), "417 closes", nginx: "200", notMet),
        .init("an empty expectation", with("Expect:"), "417 closes", nginx: "200", notMet),
        .init("100-continue and another expectation", with("Expect: 100-continue, tea"), "417 closes", nginx: "200", notMet),
    ]

    // The reasons why nginx differs.
    private static let notMet = "stricter: an expectation that cannot be met, RFC 9110 §10.1.1"
}
