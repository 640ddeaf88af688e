import Glibc
package import LinuxSystem

/// base64 (RFC 4648); decoding accepts the standard and the URL-safe alphabet, with or without padding.
package enum Base64 {
    /// The error code for text that is not base64.
    package static let invalid = EILSEQ

    /// Decodes `text` and appends the bytes to `buffer`.
    package static func decode(_ text: Span<UInt8>, into buffer: inout ByteBuffer) throws(SystemError) {
        var digits = text.count
        while digits > 0, text.count - digits < 2, text[digits - 1] == UInt8(ascii: "=") { digits -= 1 }
        // Padding, if present, must fill the last group; a single digit in the last group does not hold a whole byte.
        guard digits % 4 != 1, digits == text.count || text.count % 4 == 0 else { throw SystemError("base64", code: invalid) }
        try buffer.reserve(digits / 4 * 3 + 2)
        var group: UInt32 = 0
        var piece: InlineArray<3, UInt8> = [0, 0, 0]
        for index in 0..<digits {
            guard let value = value(of: text[index]) else { throw SystemError("base64", code: invalid) }
            group = group << 6 | value
            let place = index % 4
            if place > 0 { piece[place - 1] = UInt8(truncatingIfNeeded: group >> UInt32(6 - 2 * place)) }
            if place == 3 || index == digits - 1, place > 0 {
                try unsafe buffer.append(piece.span.bytes.extracting(first: place))
            }
            if place == 3 { group = 0 }
        }
    }

    /// Encodes a short text, such as an answer's body, in the standard alphabet with padding.
    package static func encode(_ bytes: [UInt8]) -> [UInt8] {
        let digits = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)
        return stride(from: 0, to: bytes.count, by: 3).flatMap { start in
            let piece = bytes[start..<min(start + 3, bytes.count)]
            let group = piece.reduce(0) { $0 << 8 | Int($1) } << (8 * (3 - piece.count))
            return (0..<4).map { $0 <= piece.count ? digits[group >> (18 - 6 * $0) & 63] : UInt8(ascii: "=") }
        }
    }

    private static func value(of digit: UInt8) -> UInt32? {
        switch digit {
        case 65...90: UInt32(digit) - 65
        case 97...122: UInt32(digit) - 71
        case 48...57: UInt32(digit) + 4
        case UInt8(ascii: "+"), UInt8(ascii: "-"): 62
        case UInt8(ascii: "/"), UInt8(ascii: "_"): 63
        default: nil
        }
    }
}
