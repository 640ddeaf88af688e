/// Encodes protobuf field by field, so that tests can also write invalid messages.
enum Wire {
    static func varint(_ value: UInt64) -> [UInt8] {
        value < 0x80 ? [UInt8(value)] : [UInt8(value & 0x7F) | 0x80] + varint(value >> 7)
    }

    static func tag(_ number: UInt64, _ wireType: UInt64) -> [UInt8] { varint(number << 3 | wireType) }

    static func bytes(_ number: UInt64, _ content: [UInt8]) -> [UInt8] {
        tag(number, 2) + varint(UInt64(content.count)) + content
    }

    static func text(_ number: UInt64, _ content: String) -> [UInt8] { bytes(number, Array(content.utf8)) }

    /// `count` groups, each inside the one before.
    static func groups(_ count: Int) -> [UInt8] {
        Array(repeatElement(tag(9, 3), count: count).joined()) + Array(repeatElement(tag(9, 4), count: count).joined())
    }

    /// Fields of each wire type that push.v1 does not know.
    static let unknown: [UInt8] =
        tag(3, 0) + varint(.max) + tag(4, 1) + [1, 2, 3, 4, 5, 6, 7, 8] + text(5, "unknown") + tag(6, 3) + tag(1, 0) + [1]
        + tag(6, 4) + tag(7, 5) + [1, 2, 3, 4] + bytes((1 << 29) - 1, [])

    // MARK: push.v1

    static func label(_ name: String, _ value: String) -> [UInt8] { bytes(1, text(1, name) + text(2, value)) }
    static func sample(_ profile: String, _ id: String) -> [UInt8] { bytes(2, text(1, profile) + text(2, id)) }
    static func series(_ fields: [UInt8]...) -> [UInt8] { bytes(1, Array(fields.joined())) }
}
