import Testing

@testable import Profiles
@testable import TestSupport

@Suite("Times in the parameters from and until")
struct SenderTimeTests {
    private static let now: Int64 = 1_700_000_000_123_456_789
    private static let second: Int64 = 1_000_000_000

    @Test(
        "A number is a date or a Unix time, depending on the count of its digits",
        arguments: [
            ("1700000000", 1_700_000_000_000_000_000),
            ("0", 0),
            ("1", 1_000_000_000),
            ("1700000000123", 1_700_000_000_123_000_000),
            ("1700000000123456", 1_700_000_000_123_456_000),
            ("1700000000123456789", 1_700_000_000_123_456_789),
            ("20240229", 1_709_164_800_000_000_000),
            ("19700101", 0),
            ("20230229", 20_230_229_000_000_000),
            ("20241301", 20_241_301_000_000_000),
            ("1_700_000,000", 1_700_000_000_000_000_000),
            (" 17000 00000 ", 1_700_000_000_000_000_000),
            ("9223372036", 9_223_372_036_000_000_000),
        ])
    func absolute(text: String, expected: Int64) {
        #expect(SenderTime.parse(text, now: Self.now) == expected)
    }

    @Test(
        "Other text is an offset from now, whatever precedes the sign",
        arguments: [
            ("now", 0), ("now-1h", -3600), ("now+1h", 3600), ("-30min", -1800), ("noon-2d", -172_800),
            ("now-1h30min", -5400), ("now - 1 h", -3600), ("-5s", -5), ("-5seconds", -5), ("-5m", -300), ("-2minutes", -120),
            ("-1w", -604_800), ("-1M", -2_592_000), ("-1mon", -2_592_000), ("-1month", -2_592_000), ("-1y", -31_536_000),
            ("now-0s", 0),
        ])
    func offset(text: String, seconds: Int64) {
        #expect(SenderTime.parse(text, now: Self.now) == Self.now + seconds * Self.second)
    }

    @Test(
        "A text that cannot be read counts as now",
        arguments: ["", "yesterday", "-", "+", "now-", "-h", "-5", "-5x", "1.5", "0x10", "now-99999999999999999999s", "٣", "２０２４０１０１"])
    func junk(text: String) {
        #expect(SenderTime.parse(text, now: Self.now) == Self.now)
    }

    @Test("An invalid quantity ends the offset, and the quantities before it count")
    func offsetEndsEarly() {
        #expect(SenderTime.parse("now-1h5x", now: Self.now) == Self.now - 3600 * Self.second)
    }

    @Test("A number too large for nanoseconds is clamped to the last time", arguments: ["9223372037", "99999999999", "999999999999999999"])
    func tooLarge(text: String) {
        #expect(SenderTime.parse(text, now: Self.now) == .max)
    }

    @Test("A number too large for an integer counts as now")
    func overflow() {
        #expect(SenderTime.parse(String(repeating: "9", count: 40), now: Self.now) == Self.now)
    }

    @Test("The first and the last date in the range of nanoseconds are read")
    func extremeDates() {
        #expect(SenderTime.parse("16770922", now: Self.now) == -106_751 * 86_400 * Self.second)
        #expect(SenderTime.parse("22620411", now: Self.now) == 106_751 * 86_400 * Self.second)
    }

    @Test("A date beyond the range of nanoseconds does not end the process")
    func datesOutOfRange() async {
        await #expect(processExitsWith: .success) { _ = SenderTime.parse("00010101", now: 0) }
        await #expect(processExitsWith: .success) { _ = SenderTime.parse("16770921", now: 0) }
        await #expect(processExitsWith: .success) { _ = SenderTime.parse("22620412", now: 0) }
        await #expect(processExitsWith: .success) { _ = SenderTime.parse("99991231", now: 0) }
    }

    @Test("An offset beyond the last time is clamped to it", arguments: ["now+9223372036s", "+290y", "+106751d"])
    func offsetOutOfRange(text: String) {
        #expect(SenderTime.parse(text, now: Self.now) == .max)
    }

    @Test("Random text gives a time and no crash")
    func garbage() {
        var random = SeededRandom()
        for _ in 0..<3000 {
            let text = String(decoding: random.bytes(upTo: 24, of: "now+- ,_hmsdwyMi59"), as: UTF8.self)
            _ = SenderTime.parse(text, now: Self.now)
        }
    }
}
