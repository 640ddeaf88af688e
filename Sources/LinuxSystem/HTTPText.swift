import Glibc

extension UInt8 {
    /// Whether the byte may stand in a token, such as a header's name (RFC 9110 §5.6.2).
    @inlinable public var isTokenByte: Bool {
        switch self {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
            UInt8(ascii: "-"), UInt8(ascii: "_"), UInt8(ascii: "!"), UInt8(ascii: "#"), UInt8(ascii: "$"), UInt8(ascii: "%"),
            UInt8(ascii: "&"), UInt8(ascii: "'"), UInt8(ascii: "*"), UInt8(ascii: "+"), UInt8(ascii: "."), UInt8(ascii: "^"),
            UInt8(ascii: "`"), UInt8(ascii: "|"), UInt8(ascii: "~"):
            true
        default: false
        }
    }

    /// The byte, or the lower case of an ASCII letter in upper case.
    @inlinable public var lowercased: UInt8 { 65...90 ~= self ? self | 0x20 : self }
}

extension Array<UInt8> {
    /// Appends the bytes of a text; faster than `append(contentsOf:)`, which looks at each of them.
    @inlinable public mutating func append(utf8 text: String) {
        unsafe text.utf8.span.withUnsafeBufferPointer { unsafe append(contentsOf: $0) }
    }

    /// Appends the decimal digits of a number that is not negative.
    public mutating func append(decimal number: Int) {
        var place: UInt = 1
        let number = UInt(clamping: number)
        while number / place >= 10 { place *= 10 }
        while place > 0 {
            append(UInt8(ascii: "0") + UInt8(truncatingIfNeeded: number / place % 10))
            place /= 10
        }
    }
}

extension Span<UInt8> {
    /// The first place of a byte, from an index on; the C library looks at many bytes at a time.
    public func firstIndex(of byte: UInt8, from start: Int) -> Int? {
        guard start < count else { return nil }
        return unsafe extracting(start...).withUnsafeBytes { rest in
            guard let first = rest.baseAddress, let found = unsafe memchr(first, Int32(byte), rest.count) else { return nil }
            return unsafe start + (UnsafeRawPointer(found) - first)
        }
    }

    /// Whether a byte is among them.
    public func contains(_ byte: UInt8) -> Bool { firstIndex(of: byte, from: 0) != nil }
}
