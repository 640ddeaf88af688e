import ConfigJSON
import Testing

@testable import TestSupport

@Suite("Durations and sizes")
struct UnitsTests {
    @Test(
        "Durations are read as Go writes them",
        arguments: [
            ("0", Duration.zero), ("0s", .zero), ("1ns", .nanoseconds(1)), ("5us", .microseconds(5)), ("5µs", .microseconds(5)),
            ("500ms", .milliseconds(500)), ("30s", .seconds(30)), ("5m", .seconds(300)), ("2h", .seconds(7200)), ("1d", .seconds(86_400)),
            ("1h30m", .seconds(5400)), ("1m0.5s", .milliseconds(60_500)), ("1.5s", .milliseconds(1500)), ("0.1ns", .zero),
            ("007s", .seconds(7)),
            ("106751d", .seconds(106_751 * 86_400)), ("9223372036s", .seconds(9_223_372_036)),
        ])
    func duration(text: String, expected: Duration) {
        #expect(parseDuration(text) == expected)
    }

    @Test(
        "An invalid duration is nil",
        arguments: [
            "", " ", "s", "5", "00", "-5s", "+5s", "5 s", " 5s", "5s ", "5x", "5S", "5Ms", ".5s", "5.s", "1.2.3s", "1e3s", "0x5s", "1h-5m",
            "1h30", "٣s",
            "inf", "nan", "infs", "106752d", "9223372037s", "106751d106751d", "99999999999999999999s",
        ])
    func noDuration(text: String) {
        #expect(parseDuration(text) == nil)
    }

    private static let mebibyte = 1_048_576

    static let sizes: [(String, Int)] = [
        ("0", 0), ("512", 512), ("512B", 512), ("1kB", 1000), ("1KB", 1000), ("10MB", 10_000_000), ("1GB", 1_000_000_000),
        ("1TB", 1_000_000_000_000), ("1KiB", 1024), ("64MiB", 64 * mebibyte), ("64mib", 64 * mebibyte), ("1.5GiB", 1536 * mebibyte),
        ("2TiB", 2_199_023_255_552), ("0.5KiB", 512), ("8388607TiB", 9_223_370_937_343_148_032),
        ("9007199254740992", 9_007_199_254_740_992),
    ]

    @Test("Sizes are read in bytes, decimal and binary units", arguments: sizes)
    func size(text: String, expected: Int) {
        #expect(parseSize(text) == expected)
    }

    @Test(
        "An invalid size is nil",
        arguments: [
            "", " ", "B", "MiB", "-1", "-1MiB", "+1", "1 MiB", "1MiB ", "1Mi", "1M", "1EiB", "1.MiB", ".5MiB", "1..5MiB", "1e3", "0x10",
            "1MiB1KiB", "٣",
            "8388608TiB", "9223372036854775808", "99999999999999999999999GiB",
        ])
    func noSize(text: String) {
        #expect(parseSize(text) == nil)
    }

    @Test("Very long numbers do not overflow")
    func endless() {
        let digits = String(repeating: "9", count: 1000)
        #expect(parseDuration(digits + "s") == nil)
        #expect(parseSize(digits) == nil)
    }

    @Test("Random text gives nil or a value that is not negative, and no crash")
    func garbage() {
        var random = SeededRandom()
        for _ in 0..<3000 {
            let text = String(decoding: random.bytes(upTo: 12, of: "0159.-smhdnuµkKMiB"), as: UTF8.self)
            if let duration = parseDuration(text) { #expect(duration >= .zero, "\(text)") }
            if let size = parseSize(text) { #expect(size >= 0, "\(text)") }
        }
    }
}
