import LinuxSystem
import Profiles

/// Parses `push.v1.DecodedPush` from protobuf, with bounds on depth, lengths and counts; unknown fields are skipped.
///
///     PushRequest      { repeated RawProfileSeries series = 1 }
///     RawProfileSeries { repeated LabelPair labels = 1; repeated RawSample samples = 2 }
///     RawSample        { bytes raw_profile = 1; string ID = 2 }       LabelPair { string name = 1; string value = 2 }
struct PushProtobuf {
    typealias Malformed = DecodedPush.Malformed

    private static let maximumGroupDepth = 32

    /// The rest of the message that is being parsed, as a range of the bytes.
    private var index: Int
    private let end: Int

    private init(_ range: Range<Int>) { (index, end) = (range.lowerBound, range.upperBound) }

    /// - Returns: the request; its samples are ranges of `bytes`.
    static func parse(_ bytes: Span<UInt8>) throws(Malformed) -> DecodedPush {
        var request = DecodedPush()
        var message = PushProtobuf(0..<bytes.count)
        while let field = try message.field(bytes) {
            if case .bytes(1, let range) = field { try request.add(try series(bytes, range)) }
        }
        return request
    }

    /// The number of fields that are read by ``parse(_:)``: series, labels, samples and what is in these; at most `limit`, and fewer when
    /// the message is malformed.
    static func countFields(_ bytes: Span<UInt8>, upTo limit: Int) -> Int {
        var count = 0
        countFields(bytes, 0..<bytes.count, depth: 0, upTo: limit, &count)
        return count
    }

    private static func countFields(_ bytes: Span<UInt8>, _ range: Range<Int>, depth: Int, upTo limit: Int, _ count: inout Int) {
        var message = PushProtobuf(range)
        while count < limit, let field = try? message.field(bytes) {
            count += 1
            // Series are the first field of the message, and labels and samples the first two of a series.
            guard case .bytes(let number, let content) = field, number == 1 || depth == 1 && number == 2, depth < 2 else { continue }
            countFields(bytes, content, depth: depth + 1, upTo: limit, &count)
        }
    }

    private static func series(_ bytes: Span<UInt8>, _ range: Range<Int>) throws(Malformed) -> DecodedPush.Series {
        var series = DecodedPush.Series()
        var message = PushProtobuf(range)
        while let field = try message.field(bytes) {
            switch field {
            case .bytes(1, let range):
                let (name, value) = try label(bytes, range)
                try series.add(label: name, value)
            case .bytes(2, let range):
                guard series.samples.count < DecodedPush.maximumSamples else {
                    throw Malformed("more than \(DecodedPush.maximumSamples) samples")
                }
                series.samples.append(try sample(bytes, range))
            default: break
            }
        }
        return series
    }

    private static func label(_ bytes: Span<UInt8>, _ range: Range<Int>) throws(Malformed) -> (String, String) {
        var (name, value) = ("", "")
        var message = PushProtobuf(range)
        while let field = try message.field(bytes) {
            switch field {
            case .bytes(1, let range): name = try text(bytes, range, "a label's name")
            case .bytes(2, let range): value = try text(bytes, range, "a label's value")
            default: break
            }
        }
        return (name, value)
    }

    private static func sample(_ bytes: Span<UInt8>, _ range: Range<Int>) throws(Malformed) -> ProfileContent.Sample {
        var sample = ProfileContent.Sample(range: range.upperBound..<range.upperBound)
        var message = PushProtobuf(range)
        while let field = try message.field(bytes) {
            switch field {
            case .bytes(1, let range): sample.range = range
            case .bytes(2, let range): sample.id = try text(bytes, range, "a sample's ID")
            default: break
            }
        }
        guard !sample.id.utf8.span.contains(0) else { throw Malformed("a sample's ID contains a NUL character") }
        return sample
    }

    private static func text(_ bytes: Span<UInt8>, _ range: Range<Int>, _ what: String) throws(Malformed) -> String {
        do throws(UTF8.ValidationError) {
            return String(copying: try UTF8Span(validating: bytes.extracting(range)))
        } catch { throw Malformed("\(what) is not valid UTF-8") }
    }

    // MARK: Wire format

    private enum Field {
        /// A length-delimited field: its number and where its content lies.
        case bytes(Int, Range<Int>)
        /// Any other field, which has been skipped.
        case other
    }

    /// Reads the next field; nil at the message's end.
    private mutating func field(_ bytes: Span<UInt8>) throws(Malformed) -> Field? {
        guard index < end else { return nil }
        let (number, wireType) = try tag(bytes)
        if wireType == 2 { return .bytes(number, try content(bytes)) }
        try skip(bytes, number, wireType, depth: 0)
        return .other
    }

    private mutating func tag(_ bytes: Span<UInt8>) throws(Malformed) -> (number: Int, wireType: UInt64) {
        let tag = try varint(bytes)
        guard tag >> 3 >= 1, tag >> 3 < 1 << 29 else { throw Malformed("a field number out of range") }
        return (Int(tag >> 3), tag & 7)
    }

    private mutating func varint(_ bytes: Span<UInt8>) throws(Malformed) -> UInt64 {
        var value: UInt64 = 0
        for shift in stride(from: UInt64(0), to: 70, by: 7) {
            guard index < end else { throw Malformed("the message ends inside a number") }
            let byte = bytes[index]
            index += 1
            guard shift < 63 || byte <= 1 else { break }
            value |= UInt64(byte & 0x7F) << shift
            if byte < 0x80 { return value }
        }
        throw Malformed("a number of more than 64 bits")
    }

    private mutating func content(_ bytes: Span<UInt8>) throws(Malformed) -> Range<Int> {
        let length = try varint(bytes)
        guard length <= UInt64(end - index) else { throw Malformed("a field is longer than its message") }
        defer { index += Int(length) }
        return index..<(index + Int(length))
    }

    private mutating func skip(_ bytes: Span<UInt8>, _ number: Int, _ wireType: UInt64, depth: Int) throws(Malformed) {
        switch wireType {
        case 0: _ = try varint(bytes)
        case 1: try advance(8)
        case 2: _ = try content(bytes)
        case 3: try skipGroup(bytes, number, depth: depth)
        case 5: try advance(4)
        default: throw Malformed("a field of unknown wire type \(wireType)")
        }
    }

    private mutating func advance(_ count: Int) throws(Malformed) {
        guard count <= end - index else { throw Malformed("a field is longer than its message") }
        index += count
    }

    private mutating func skipGroup(_ bytes: Span<UInt8>, _ number: Int, depth: Int) throws(Malformed) {
        guard depth < Self.maximumGroupDepth else { throw Malformed("groups nested deeper than \(Self.maximumGroupDepth)") }
        while true {
            let inner = try tag(bytes)
            if inner.wireType == 4 {
                guard inner.number == number else { throw Malformed("a group that ends as another") }
                return
            }
            try skip(bytes, inner.number, inner.wireType, depth: depth + 1)
        }
    }
}
