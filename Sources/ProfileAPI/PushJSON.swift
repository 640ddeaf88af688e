import HTTPServer
import LinuxSystem
import Profiles

/// Parses `push.v1.DecodedPush` from protojson in one pass over the bytes; unknown members are skipped.
///
/// Both spellings of a name are accepted (`rawProfile`, `raw_profile`), null means absent, and base64 may be standard or
/// URL-safe, with or without padding.
struct PushJSON: ~Copyable {
    typealias Malformed = DecodedPush.Malformed

    private static let maximumDepth = 32

    private var index = 0
    private var depth = 0

    private var decoded = ByteBuffer()

    /// Parses a request; the ranges of its samples refer to `samples`, which is set to their decoded bytes.
    static func parse(_ bytes: Span<UInt8>, samples: inout ByteBuffer) throws(Malformed) -> DecodedPush {
        var reader = PushJSON()
        var request = DecodedPush()
        try reader.object(bytes) { (reader, name) throws(Malformed) in
            guard name == "series" else { return try reader.skip(bytes) }
            try reader.array(bytes) { (reader) throws(Malformed) in try request.add(try reader.series(bytes)) }
        }
        reader.skipBlank(bytes)
        guard reader.index == bytes.count else { throw Malformed("unexpected text after the message") }
        samples = reader.take()
        return request
    }

    private consuming func take() -> ByteBuffer { decoded }

    private mutating func series(_ bytes: Span<UInt8>) throws(Malformed) -> DecodedPush.Series {
        var series = DecodedPush.Series()
        try object(bytes) { (reader, name) throws(Malformed) in
            switch name {
            case "labels":
                try reader.array(bytes) { (reader) throws(Malformed) in
                    let (name, value) = try reader.label(bytes)
                    try series.add(label: name, value)
                }
            case "samples":
                try reader.array(bytes) { (reader) throws(Malformed) in
                    guard series.samples.count < DecodedPush.maximumSamples else {
                        throw Malformed("more than \(DecodedPush.maximumSamples) samples")
                    }
                    series.samples.append(try reader.sample(bytes))
                }
            default: try reader.skip(bytes)
            }
        }
        return series
    }

    private mutating func label(_ bytes: Span<UInt8>) throws(Malformed) -> (String, String) {
        var (name, value) = ("", "")
        try object(bytes) { (reader, member) throws(Malformed) in
            switch member {
            case "name": name = try reader.text(bytes)
            case "value": value = try reader.text(bytes)
            default: try reader.skip(bytes)
            }
        }
        return (name, value)
    }

    private mutating func sample(_ bytes: Span<UInt8>) throws(Malformed) -> ProfileContent.Sample {
        var sample = ProfileContent.Sample(range: decoded.count..<decoded.count)
        try object(bytes) { (reader, member) throws(Malformed) in
            switch member {
            case "rawProfile", "raw_profile": sample.range = try reader.base64(bytes)
            case "ID": sample.id = try reader.text(bytes)
            default: try reader.skip(bytes)
            }
        }
        guard !sample.id.utf8.span.contains(0) else { throw Malformed("a sample's ID contains a NUL character") }
        return sample
    }

    // MARK: JSON, RFC 8259

    private mutating func skipBlank(_ bytes: Span<UInt8>) {
        while index < bytes.count, [32, 9, 10, 13].contains(bytes[index]) { index += 1 }
    }

    private mutating func take(_ byte: UInt8, _ bytes: Span<UInt8>) -> Bool {
        skipBlank(bytes)
        guard index < bytes.count, bytes[index] == byte else { return false }
        index += 1
        return true
    }

    private mutating func expect(_ byte: UInt8, _ bytes: Span<UInt8>) throws(Malformed) {
        guard take(byte, bytes) else { throw unexpected("\"\(Character(Unicode.Scalar(byte)))\"") }
    }

    private func unexpected(_ wanted: String) -> Malformed { Malformed("expected \(wanted) at byte \(index)") }

    private mutating func takeNull(_ bytes: Span<UInt8>) -> Bool {
        skipBlank(bytes)
        return takeWord(Self.null, bytes)
    }

    private mutating func takeWord(_ word: [UInt8], _ bytes: Span<UInt8>) -> Bool {
        guard bytes.count - index >= word.count else { return false }
        for offset in word.indices where bytes[index + offset] != word[offset] { return false }
        index += word.count
        return true
    }

    private static let null = Array("null".utf8)
    private static let words = [null, Array("true".utf8), Array("false".utf8)]
    private static let unicodeEscape = Array("\\u".utf8)

    private mutating func enter() throws(Malformed) {
        guard depth < Self.maximumDepth else { throw Malformed("nested deeper than \(Self.maximumDepth)") }
        depth += 1
    }

    /// Reads an object, or null; `member` must read each member's value.
    private mutating func object(
        _ bytes: Span<UInt8>, _ member: (inout PushJSON, String) throws(Malformed) -> Void
    ) throws(Malformed) {
        if takeNull(bytes) { return }
        try expect(UInt8(ascii: "{"), bytes)
        try enter()
        defer { depth -= 1 }
        if take(UInt8(ascii: "}"), bytes) { return }
        repeat {
            let name = try string(bytes)
            try expect(UInt8(ascii: ":"), bytes)
            try member(&self, name)
        } while take(UInt8(ascii: ","), bytes)
        try expect(UInt8(ascii: "}"), bytes)
    }

    /// Reads an array, or null; `element` must read each element.
    private mutating func array(
        _ bytes: Span<UInt8>, _ element: (inout PushJSON) throws(Malformed) -> Void
    ) throws(Malformed) {
        if takeNull(bytes) { return }
        try expect(UInt8(ascii: "["), bytes)
        try enter()
        defer { depth -= 1 }
        if take(UInt8(ascii: "]"), bytes) { return }
        repeat { try element(&self) } while take(UInt8(ascii: ","), bytes)
        try expect(UInt8(ascii: "]"), bytes)
    }

    /// Reads a string; null is read as the empty string.
    private mutating func text(_ bytes: Span<UInt8>) throws(Malformed) -> String {
        takeNull(bytes) ? "" : try string(bytes)
    }

    private mutating func string(_ bytes: Span<UInt8>) throws(Malformed) -> String {
        try expect(UInt8(ascii: "\""), bytes)
        var content: [UInt8] = []
        while index < bytes.count {
            let byte = bytes[index]
            index += 1
            switch byte {
            case UInt8(ascii: "\""):
                guard let text = String(validating: content, as: UTF8.self) else { throw Malformed("a string is not valid UTF-8") }
                return text
            case UInt8(ascii: "\\"): try escape(bytes, into: &content)
            case 0..<32: throw Malformed("a control character in a string")
            default: content.append(byte)
            }
        }
        throw Malformed("a string that does not end")
    }

    private mutating func escape(_ bytes: Span<UInt8>, into content: inout [UInt8]) throws(Malformed) {
        guard index < bytes.count else { throw Malformed("a string that does not end") }
        let byte = bytes[index]
        index += 1
        switch byte {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): content.append(byte)
        case UInt8(ascii: "b"): content.append(8)
        case UInt8(ascii: "f"): content.append(12)
        case UInt8(ascii: "n"): content.append(10)
        case UInt8(ascii: "r"): content.append(13)
        case UInt8(ascii: "t"): content.append(9)
        case UInt8(ascii: "u"): content += Array(Character(try unicode(bytes)).utf8)
        default: throw Malformed("an unknown escape in a string")
        }
    }

    private mutating func unicode(_ bytes: Span<UInt8>) throws(Malformed) -> Unicode.Scalar {
        var code = try hexadecimal(bytes)
        if (0xD800..<0xDC00).contains(code), takeWord(Self.unicodeEscape, bytes) {
            let low = try hexadecimal(bytes)
            guard (0xDC00..<0xE000).contains(low) else { throw Malformed("half a character in a \\u escape") }
            code = 0x10000 + (code - 0xD800) << 10 + (low - 0xDC00)
        }
        guard let scalar = Unicode.Scalar(code) else { throw Malformed("half a character in a \\u escape") }
        return scalar
    }

    private mutating func hexadecimal(_ bytes: Span<UInt8>) throws(Malformed) -> UInt32 {
        var code: UInt32 = 0
        for _ in 0..<4 {
            guard index < bytes.count, let digit = Character(Unicode.Scalar(bytes[index])).hexDigitValue, bytes[index] < 0x80
            else { throw Malformed("a \\u escape without four digits") }
            code = code << 4 | UInt32(digit)
            index += 1
        }
        return code
    }

    /// Decodes a base64 string and appends it to `decoded`; null is no bytes.
    private mutating func base64(_ bytes: Span<UInt8>) throws(Malformed) -> Range<Int> {
        let start = decoded.count
        if takeNull(bytes) { return start..<start }
        if let length = lengthOfPlainString(bytes) {
            try decode(bytes.extracting((index + 1)..<(index + 1 + length)))
            index += length + 2
        } else {
            let text = Array(try string(bytes).utf8)
            try decode(text.span)
        }
        return start..<decoded.count
    }

    private mutating func decode(_ text: Span<UInt8>) throws(Malformed) {
        do throws(SystemError) {
            try Base64.decode(text, into: &decoded)
        } catch {
            throw Malformed(error.code == Base64.invalid ? "rawProfile is no base64" : "no memory for a sample")
        }
    }

    /// The length of the string that comes next; nil when it has escapes or is no string, so that `string(_:)` must read it.
    private func lengthOfPlainString(_ bytes: Span<UInt8>) -> Int? {
        guard index < bytes.count, bytes[index] == UInt8(ascii: "\"") else { return nil }
        for end in (index + 1)..<bytes.count {
            if bytes[end] == UInt8(ascii: "\\") { return nil }
            if bytes[end] == UInt8(ascii: "\"") { return end - index - 1 }
        }
        return nil
    }

    /// Skips any value.
    private mutating func skip(_ bytes: Span<UInt8>) throws(Malformed) {
        skipBlank(bytes)
        guard index < bytes.count else { throw unexpected("a value") }
        switch bytes[index] {
        case UInt8(ascii: "{"): try object(bytes) { (reader, _) throws(Malformed) in try reader.skip(bytes) }
        case UInt8(ascii: "["): try array(bytes) { (reader) throws(Malformed) in try reader.skip(bytes) }
        case UInt8(ascii: "\""): _ = try string(bytes)
        default: try skipScalar(bytes)
        }
    }

    private mutating func skipScalar(_ bytes: Span<UInt8>) throws(Malformed) {
        if bytes[index] >= UInt8(ascii: "a") {
            for word in Self.words where takeWord(word, bytes) { return }
        }
        let start = index
        while index < bytes.count, "+-.0123456789eE".utf8.contains(bytes[index]) { index += 1 }
        guard index > start, bytes[start] == UInt8(ascii: "-") || 48...57 ~= bytes[start] else { throw unexpected("a value") }
    }
}
