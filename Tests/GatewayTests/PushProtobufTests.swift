import Testing

@testable import ProfileAPI
@testable import Telemetry
@testable import TestSupport

@Suite("Push requests in protobuf")
struct PushProtobufTests {
    /// A summary of the message, or why it is refused.
    static func outcome(_ bytes: [UInt8]) -> String {
        do throws(DecodedPush.Malformed) {
            return try PushProtobuf.parse(bytes.span).summary(bytes)
        } catch { return "refused: \(error.reason)" }
    }

    /// A message of one series with one label, which has these fields.
    private static func label(_ fields: [UInt8]...) -> [UInt8] { Wire.series(Wire.bytes(1, Array(fields.joined()))) }
    /// A message of one series with one sample, which has these fields.
    private static func sample(_ fields: [UInt8]...) -> [UInt8] { Wire.series(Wire.bytes(2, Array(fields.joined()))) }

    private static let whole = Wire.series(Wire.label("b", "2"), Wire.label("a", "1"), Wire.sample("one", "x"), Wire.sample("two", "y"))

    static let accepted: [([UInt8], String)] = [
        ([], ""),
        (Wire.series(), ""),
        (whole, "a=1,b=2 x:one y:two"),
        (Wire.series(Wire.sample("one", "x"), Wire.label("a", "1"), Wire.sample("two", "y")), "a=1 x:one y:two"),
        (Wire.series(Wire.label("a", "1")) + Wire.series(Wire.sample("two", "")), "a=1\n :two"),
        (sample(), " :"),
        (sample(Wire.text(2, "only an id")), " only an id:"),
        (label(), "="),
        (label(Wire.text(2, "v")), "=v"),
        (Wire.series(Wire.label("a", "1"), Wire.label("A", "1")), "A=1,a=1"),
        (Wire.series(Wire.label("\u{e9}", "\u{1F525}")), "\u{e9}=\u{1F525}"),
        // The last of several equal fields counts, as in all protobuf readers.
        (label(Wire.text(1, "a"), Wire.text(2, "1"), Wire.text(1, "b"), Wire.text(2, "2")), "b=2"),
        (sample(Wire.text(1, "one"), Wire.text(2, "x"), Wire.text(1, "two"), Wire.text(2, "y")), " y:two"),
        // Annotations are skipped like unknown fields.
        (Wire.series(Wire.label("a", "1"), Wire.bytes(3, Wire.text(1, "key"))), "a=1"),
    ]

    static let unknown: [([UInt8], String)] = [
        (Wire.unknown, ""),
        (Wire.unknown + whole + Wire.unknown, "a=1,b=2 x:one y:two"),
        (Wire.series(Wire.unknown, Wire.label("a", "1"), Wire.unknown), "a=1"),
        (label(Wire.unknown, Wire.text(1, "a"), Wire.unknown, Wire.text(2, "1"), Wire.unknown), "a=1"),
        (sample(Wire.unknown, Wire.text(1, "one"), Wire.unknown, Wire.text(2, "x"), Wire.unknown), " x:one"),
        // A known number with another wire type is an unknown field.
        (Wire.tag(1, 0) + [7] + Wire.tag(1, 1) + [1, 2, 3, 4, 5, 6, 7, 8] + Wire.tag(1, 5) + [1, 2, 3, 4] + whole, "a=1,b=2 x:one y:two"),
        (Wire.tag(1, 3) + Wire.text(1, "inside") + Wire.tag(1, 4) + whole, "a=1,b=2 x:one y:two"),
        (Wire.tag((1 << 29) - 1, 0) + [0], ""),
        (Wire.groups(32), ""),
    ]

    private static let tooLong = "refused: a field is longer than its message"
    private static let unended = "refused: the message ends inside a number"
    private static let manyBits = "refused: a number of more than 64 bits"
    private static let badNumber = "refused: a field number out of range"

    static let malformed: [([UInt8], String)] = [
        (Wire.tag(0, 2) + [0], badNumber),
        (Wire.tag(0, 0) + [0], badNumber),
        (Wire.tag(1 << 29, 0) + [0], badNumber),
        (Wire.varint(.max), badNumber),
        (Wire.tag(1, 6), "refused: a field of unknown wire type 6"),
        (Wire.tag(1, 7), "refused: a field of unknown wire type 7"),
        (Wire.tag(9, 4), "refused: a field of unknown wire type 4"),
        (Wire.tag(9, 3) + Wire.tag(8, 4), "refused: a group that ends as another"),
        (Wire.tag(9, 3), unended),
        (Wire.groups(33), "refused: groups nested deeper than 32"),
        (Wire.groups(100_000), "refused: groups nested deeper than 32"),
        (Wire.tag(1, 2), unended),
        (Wire.tag(1, 2) + [1], tooLong),
        (Wire.tag(1, 2) + Wire.varint(.max), tooLong),
        (Wire.tag(1, 2) + Wire.varint(1 << 63), tooLong),
        (Wire.tag(3, 1) + [1, 2, 3, 4, 5, 6, 7], tooLong),
        (Wire.tag(3, 5) + [1, 2, 3], tooLong),
        // The outer length is right, and the inner one reaches beyond its series into the next one.
        (Wire.series(Wire.tag(2, 2) + [5], Wire.tag(1, 2) + [3, 0]) + whole, tooLong),
        ([0x80], unended),
        ([UInt8](repeating: 0xFF, count: 9), unended),
        ([UInt8](repeating: 0xFF, count: 10), manyBits),
        ([UInt8](repeating: 0xFF, count: 11), manyBits),
    ]

    static let texts: [([UInt8], String)] = [
        (Wire.series(Wire.label("a", "1"), Wire.label("a", "2")), "refused: duplicate label \"a\""),
        (Wire.series(Wire.label("a", "1"), Wire.label("b", "1"), Wire.label("a", "1")), "refused: duplicate label \"a\""),
        (label(Wire.bytes(1, [0xFF])), "refused: a label's name is not valid UTF-8"),
        (label(Wire.bytes(1, [0xC0, 0x80])), "refused: a label's name is not valid UTF-8"),
        (label(Wire.bytes(2, [0xED, 0xA0, 0x80])), "refused: a label's value is not valid UTF-8"),
        (sample(Wire.bytes(2, [0xE2, 0x82])), "refused: a sample's ID is not valid UTF-8"),
        (sample(Wire.text(2, "x\0")), "refused: a sample's ID contains a NUL character"),
        (Wire.series(Wire.label("a", "1\0")), "refused: label \"a\" contains a NUL character"),
    ]

    @Test("A message is read with its labels sorted by name and its samples in order", arguments: accepted)
    func accepts(message: [UInt8], expected: String) { #expect(Self.outcome(message) == expected) }

    @Test("Unknown fields are skipped at every level", arguments: unknown)
    func skips(message: [UInt8], expected: String) { #expect(Self.outcome(message) == expected) }

    @Test("Malformed protobuf is refused", arguments: malformed)
    func refuses(message: [UInt8], expected: String) { #expect(Self.outcome(message) == expected) }

    @Test("Duplicate labels and texts that are not UTF-8 or contain NUL are refused", arguments: texts)
    func refusesTexts(message: [UInt8], expected: String) { #expect(Self.outcome(message) == expected) }

    @Test("A label's name with NUL is refused with a readable reason")
    func nameWithNUL() {
        let reason = Self.outcome(Wire.series(Wire.label("a\0b", "1")))
        #expect(reason.hasSuffix("contains a NUL character"))
        #expect(!reason.utf8.contains(0))
    }

    @Test("A sample may have any bytes")
    func anyBytes() throws {
        let content = (0...255).map { UInt8($0) }
        let message = Self.sample(Wire.bytes(1, content))
        let request = try PushProtobuf.parse(message.span)
        #expect(Array(message[try #require(request.series.first?.samples.first).range]) == content)
    }

    @Test("A varint may have up to ten bytes", arguments: [(9, true), (10, true), (11, false)])
    func longVarint(count: Int, isTaken: Bool) {
        let zeros = [UInt8](repeating: 0x80, count: count - 1) + [0]
        #expect(Self.outcome(Wire.tag(3, 0) + zeros) == (isTaken ? "" : Self.manyBits))
        #expect(Self.outcome(Wire.tag(1, 2) + zeros) == (isTaken ? "" : Self.manyBits))
    }

    @Test("The tenth byte of a varint holds one bit", arguments: [(1, true), (2, false), (0x7F, false), (0x81, false)] as [(UInt8, Bool)])
    func tenthByte(last: UInt8, isTaken: Bool) {
        #expect(Self.outcome(Wire.tag(3, 0) + [UInt8](repeating: 0xFF, count: 9) + [last]) == (isTaken ? "" : Self.manyBits))
    }

    // MARK: Limits

    @Test("A series has a limited number of labels", arguments: [-1, 0, 1])
    func manyLabels(excess: Int) {
        let labels = (0..<(DecodedPush.maximumLabels + excess)).map { Wire.label("l\($0)", "v") }
        let refused = "refused: more than \(DecodedPush.maximumLabels) labels in a series"
        #expect((Self.outcome(Wire.series(Array(labels.joined()))) == refused) == (excess > 0))
    }

    @Test("A request has a limited number of series", arguments: [-1, 0, 1])
    func manySeries(excess: Int) {
        let message = repeatElement(Wire.series(), count: DecodedPush.maximumSeries + excess).joined()
        #expect((Self.outcome(Array(message)) == "refused: more than \(DecodedPush.maximumSeries) series") == (excess > 0))
    }

    @Test("A request has a limited number of samples, in one series or in several", arguments: [-1, 0, 1], [1, 2])
    func manySamples(excess: Int, seriesCount: Int) {
        let count = DecodedPush.maximumSamples + excess
        let parts = seriesCount == 1 ? [count] : [count / 2, count - count / 2]
        let message = parts.flatMap { Wire.series(Array(repeatElement(Wire.bytes(2, []), count: $0).joined())) }
        #expect((Self.outcome(message) == "refused: more than \(DecodedPush.maximumSamples) samples") == (excess > 0))
    }

    // MARK: Garbage

    @Test("A message truncated anywhere except between its series is refused")
    func truncated() {
        let message = Wire.unknown + Self.whole + Self.whole
        let ends = [Wire.unknown.count, Wire.unknown.count + Self.whole.count, message.count]
        for end in Wire.unknown.count...message.count {
            #expect(Self.outcome(Array(message[..<end])).hasPrefix("refused: ") == !ends.contains(end), "cut at \(end)")
        }
    }

    @Test("Random and mutated messages are read or refused, without a crash")
    func garbage() {
        var random = SeededRandom()
        let message = Wire.unknown + Self.whole + Wire.series(Wire.unknown, Wire.label("c", "3"), Wire.groups(5))
        for _ in 0..<20_000 {
            _ = Self.outcome(random.mutated(message))
            _ = Self.outcome(random.bytes(upTo: 64, of: "\n\u{12}\u{1a}\u{1}\u{2}\u{3}ab"))
        }
    }

    static let counts: [([UInt8], Int)] = [
        ([], 0), (Wire.series(), 1), (Wire.series(Wire.label("a", "b")), 4), (Wire.series(Wire.sample("p", "id")) + Wire.series(), 5),
        (Wire.series(Wire.label("a", "b"), Wire.sample("p", "id")), 7), (Wire.series(Wire.label("a", "b"), Wire.groups(2)), 5),
        (Wire.series() + Wire.bytes(9, Wire.text(1, "x")) + Wire.series(), 3),
        (Array(repeatElement(Wire.series(), count: 9).joined()), 9), (Array(repeatElement(Wire.series(), count: 19).joined()), 10),
        (Wire.series(Array(repeatElement(Wire.label("a", "b"), count: 19).joined())), 10), ([0xFF], 0), (Wire.series([0xFF]) + [0xFF], 1),
    ]

    @Test("Fields are counted up to a limit, in series, labels and samples", arguments: counts)
    func count(message: [UInt8], count: Int) { #expect(PushProtobuf.countFields(message.span, upTo: 10) == count) }
}
