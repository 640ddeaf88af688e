@testable import TestSupport

/// Chunked bodies (RFC 9112 §7.1).
extension RequestRow {
    static let chunkSizes: [RequestRow] = [
        .init("no chunk but the last", chunked("0\r\n\r\n"), "200 keeps"),
        .init("a thousand chunks of one byte", chunked(times(1000, "1\r\nx\r\n") + "0\r\n\r\n"), "200 keeps"),
        .init("a chunk of CRLF", chunked("2\r\n\r\n\r\n0\r\n\r\n"), "200 keeps"),
        .init("a chunk that looks like the last", chunked("5\r\n0\r\n\r\n\r\n0\r\n\r\n"), "200 keeps"),
        .init(
            "a chunk that is a whole request", chunked("\(String(another.utf8.count, radix: 16))\r\n\(another)\r\n0\r\n\r\n"), "200 keeps"),
        .init("a request right behind the last chunk", chunked("3\r\na 1\r\n0\r\n\r\n" + another), "200 200 keeps"),
        .init("hexadecimal sizes in both cases", chunked("A\r\n0123456789\r\nb\r\n0123456789a\r\n0\r\n\r\n"), "200 keeps"),
        .init("a size with leading zeros", chunked("0003\r\na 1\r\n0000\r\n\r\n"), "200 keeps"),
        .init("a size of 15 digits", chunked("000000000000003\r\na 1\r\n0\r\n\r\n"), "200 keeps"),
        .init("a size of 16 digits", chunked("0000000000000003\r\na 1\r\n0\r\n\r\n"), "400 closes", nginx: "200", manyDigits),
        .init("a size of 2^64 + 3", chunked("10000000000000003\r\na 1\r\n0\r\n\r\n"), "400 closes"),
        .init("a size of 2^63", chunked("8000000000000000\r\na 1\r\n0\r\n\r\n"), "400 closes"),
        .init("a size of 2^32 + 3", chunked("100000003\r\na 1\r\n0\r\n\r\n"), "413 closes"),
        .init("a size of 300 digits", chunked(times(299, "0") + "3\r\na 1\r\n0\r\n\r\n"), "400 closes", nginx: "200", manyDigits),
        .init("no size", chunked("\r\na 1\r\n0\r\n\r\n"), "400 closes"),
        .init("a size that is no number", chunked("xyz\r\na 1\r\n0\r\n\r\n"), "400 closes"),
        .init("a size with 0x", chunked("0x3\r\na 1\r\n0\r\n\r\n"), "400 closes"),
        .init("a size with a plus", chunked("+3\r\na 1\r\n0\r\n\r\n"), "400 closes"),
        .init("a size with a minus", chunked("-3\r\na 1\r\n0\r\n\r\n"), "400 closes"),
        .init("a size with an underscore", chunked("0_3\r\na 1\r\n0\r\n\r\n"), "400 closes"),
        .init("a size with an h", chunked("3h\r\na 1\r\n0\r\n\r\n"), "400 closes"),
        .init("a size with a fraction", chunked("3.0\r\na 1\r\n0\r\n\r\n"), "400 closes"),
        .init("a space before a size", chunked(" 3\r\na 1\r\n0\r\n\r\n"), "400 closes"),
        .init("a space after a size", chunked("3 \r\na 1\r\n0\r\n\r\n"), "400 closes", nginx: "200", onlyExtension),
        .init("a tab after a size", chunked("3\t\r\na 1\r\n0\r\n\r\n"), "400 closes", nginx: "200", onlyExtension),
        .init("a size in two pieces", chunked("0 3\r\na 1\r\n0\r\n\r\n"), "400 closes", nginx: "200", onlyExtension),
        .init("a list of sizes", chunked("3,3\r\na 1\r\n0\r\n\r\n"), "400 closes"),
        .init("a NUL after a size", chunked("3\0\r\na 1\r\n0\r\n\r\n"), "400 closes"),
        .init("a chunk longer than its size", chunked("2\r\na 1\r\n0\r\n\r\n"), "400 closes"),
        .init("a chunk shorter than its size", chunked("4\r\na 1\r\n0\r\n\r\n"), "400 closes", nginx: "200", chunkLineFeed),
        .init("a chunk two bytes shorter than its size", chunked("5\r\na 1\r\n0\r\n\r\n"), "400 closes"),
    ]

    static let chunkLines: [RequestRow] = [
        .init("an extension", chunked("3;a\r\na 1\r\n0;b\r\n\r\n"), "200 keeps"),
        .init("an extension with a value", chunked("3;a=b\r\na 1\r\n0\r\n\r\n"), "200 keeps"),
        .init("an extension with a quoted value", chunked("3;a=\"b;c\\\"d\"\r\na 1\r\n0\r\n\r\n"), "200 keeps"),
        .init("several extensions", chunked("3;a;b=c;d=\"e\"\r\na 1\r\n0\r\n\r\n"), "200 keeps"),
        .init("white space before an extension", chunked("3 \t;a\r\na 1\r\n0\r\n\r\n"), "200 keeps"),
        .init("an extension without a size", chunked(";a\r\na 1\r\n0\r\n\r\n"), "400 closes"),
        .init("a CRLF in an extension's quotes", chunked("3;a=\"\r\na 1\r\n0\r\n\r\n"), "400 closes", nginx: "200", quotes),
        .init("a CRLF in an extension's quotes that close", chunked("3;a=\"\r\na 1\r\n0;b=\"\r\n\r\n"), "400 closes", nginx: "200", quotes),
        .init("a bare LF ends an extension", chunked("3;a\na 1\r\n0\r\n\r\n"), "400 closes", nginx: "200", chunkLineFeed),
        .init("a bare LF in an extension", chunked("3;a\nb\r\na 1\r\n0\r\n\r\n"), "400 closes"),
        .init("a bare CR in an extension", chunked("3;a\rb\r\na 1\r\n0\r\n\r\n"), "400 closes"),
        .init("a NUL in an extension", chunked("3;a\0b\r\na 1\r\n0\r\n\r\n"), "400 closes", nginx: "200", quotes),
        .init("a DEL in an extension", chunked("3;a\u{7f}b\r\na 1\r\n0\r\n\r\n"), "400 closes", nginx: "200", quotes),
        .init("extensions of 4 KiB", chunked("3;\(times(4096, "x"))\r\na 1\r\n0\r\n\r\n"), "200 keeps"),
        .init(
            "extensions of 4 KiB and a byte", chunked("3;\(times(4000, "x"))\r\na 1\r\n0;\(times(97, "x"))\r\n\r\n"), "400 closes",
            nginx: "200", "stricter: extensions are bounded, RFC 9112 §7.1.1"),
        .init("a bare LF after a size", chunked("3\na 1\r\n0\r\n\r\n"), "400 closes", nginx: "200", chunkLineFeed),
        .init("a bare CR after a size", chunked("3\ra 1\r\n0\r\n\r\n"), "400 closes"),
        .init("CR CR LF after a size", chunked("3\r\r\na 1\r\n0\r\n\r\n"), "400 closes"),
        .init("LF CR after a size", chunked("3\n\ra 1\r\n0\r\n\r\n"), "400 closes"),
        .init("a bare LF after a chunk", chunked("3\r\na 1\n0\r\n\r\n"), "400 closes", nginx: "200", chunkLineFeed),
        .init("a bare CR after a chunk", chunked("3\r\na 1\r0\r\n\r\n"), "400 closes"),
        .init("nothing after a chunk", chunked("3\r\na 10\r\n\r\n"), "400 closes"),
        .init("an empty line after a chunk", chunked("3\r\na 1\r\n\r\n0\r\n\r\n"), "400 closes"),
        .init("a bare LF after the last size", chunked("3\r\na 1\r\n0\n\r\n"), "400 closes", nginx: "200", chunkLineFeed),
        .init("a bare CR after the last size", chunked("3\r\na 1\r\n0\r\r\n"), "400 closes"),
        .init("a bare LF at the end", chunked("3\r\na 1\r\n0\r\n\n"), "400 closes", nginx: "200", chunkLineFeed),
        .init("a bare CR at the end", chunked("3\r\na 1\r\n0\r\n\rX"), "400 closes"),
        .init("all of the framing with bare LF", chunked("3\na 1\n0\n\n"), "400 closes", nginx: "200", chunkLineFeed),
    ]

    static let trailers: [RequestRow] = [
        .init("a trailer", chunked("3\r\na 1\r\n0\r\nX: y\r\n\r\n"), "200 keeps"),
        .init("a trailer without a value", chunked("3\r\na 1\r\n0\r\nX:\r\n\r\n"), "200 keeps"),
        .init("a length in a trailer frames nothing", chunked("3\r\na 1\r\n0\r\nContent-Length: 50\r\n\r\n"), "200 keeps"),
        .init("chunked in a trailer frames nothing", chunked("3\r\na 1\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n"), "200 keeps"),
        .init("a Connection in a trailer closes nothing", chunked("3\r\na 1\r\n0\r\nConnection: close\r\n\r\n"), "200 keeps"),
        .init("a trailer in the place of the last CRLF", chunked("3\r\na 1\r\n0\r\n" + another), "400 closes", nginx: "200 400", noField),
        .init("a trailer without a colon", chunked("3\r\na 1\r\n0\r\nX\r\n\r\n"), "400 closes", nginx: "200", noField),
        .init("a trailer without a name", chunked("3\r\na 1\r\n0\r\n: y\r\n\r\n"), "400 closes", nginx: "200", noField),
        .init("a space before the colon of a trailer", chunked("3\r\na 1\r\n0\r\nX : y\r\n\r\n"), "400 closes", nginx: "200", noField),
        .init("a folded trailer", chunked("3\r\na 1\r\n0\r\nX: y\r\n z\r\n\r\n"), "400 closes", nginx: "200", noField),
        .init("a NUL in a trailer", chunked("3\r\na 1\r\n0\r\nX: \0\r\n\r\n"), "400 closes", nginx: "200", noField),
        .init("a bare LF after a trailer", chunked("3\r\na 1\r\n0\r\nX: y\n\r\n"), "400 closes", nginx: "200", chunkLineFeed),
        .init("a bare CR in a trailer", chunked("3\r\na 1\r\n0\r\nX: y\rZ: z\r\n\r\n"), "400 closes"),
        .init("trailers of 32 KiB", chunked("0\r\n" + largeTrailers(0)), "200 keeps"),
        .init(
            "trailers of 32 KiB and a byte", chunked("0\r\n" + largeTrailers(1)), "400 closes", nginx: "200",
            "stricter: trailers are bounded like a head, RFC 9110 §5.4"),
    ]

    /// Trailers of 32 KiB plus `excess` bytes, in lines of about 1 KiB.
    private static func largeTrailers(_ excess: Int) -> String {
        times(31, "X: \(times(1019, "y"))\r\n") + "X: \(times(1017 + excess, "y"))\r\n\r\n"
    }

    // The reasons why nginx differs.
    private static let manyDigits = "stricter: 15 digits hold any size, RFC 9112 §7.1"
    private static let onlyExtension = "stricter: only an extension follows a size, RFC 9112 §7.1.1"
    private static let chunkLineFeed = "stricter: the lines of chunks end in CRLF, RFC 9112 §7.1"
    private static let quotes = "stricter: no control character is in a quoted string, RFC 9110 §5.6.4"
    private static let noField = "stricter: trailers are fields, RFC 9112 §7.1.2"
}
