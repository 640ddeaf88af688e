/// Secrets that were sent to a server, to be removed from its messages, which may repeat them.
///
/// They are found in plain form, in base64 (RFC 4648 §4, §5) at any alignment, and with any characters escaped as in URLs or JSON.
public struct KnownSecrets: Sendable {
    /// The shortest secret in bytes: shorter ones would be found by chance in texts without a secret.
    public static let shortest = 6
    /// The text that takes the place of each secret.
    public static let mark = "[secret]"

    /// The patterns to look for, the longest first, so that no pattern removes only a part of a longer one.
    private let patterns: [SecretPattern]

    /// - Parameter secrets: in plain form; texts shorter than ``shortest`` bytes are ignored.
    public init(_ secrets: [String]) {
        let known = Set(secrets.filter { $0.utf8.count >= Self.shortest }.flatMap { SecretPattern.forms(of: Array($0.utf8)) })
        patterns = known.sorted { $0.bytes.count > $1.bytes.count }
    }

    /// The text with each secret replaced by ``mark``.
    public func cut(from text: String) -> String {
        // By bytes: in Swift, a combining mark after a secret would change the secret's last character.
        String(decoding: cut(from: Array(text.utf8), most: .max), as: UTF8.self)
    }

    /// The beginning of a text with each secret replaced by ``mark``.
    ///
    /// - Parameters:
    ///   - most: how many bytes are wanted; the result may be a little longer.
    ///   - isCutShort: whether the text was cut off, so that the beginning of a secret at its end counts as a secret.
    public func cut(from text: [UInt8], most: Int, isCutShort: Bool = false) -> [UInt8] {
        var (result, index): ([UInt8], Int) = ([], 0)
        while index < text.count, result.count < most {
            if let end = patterns.lazy.compactMap({ $0.end(in: text, at: index, isCutShort) }).first {
                result += Array(Self.mark.utf8)
                index = end
            } else {
                result.append(text[index])
                index += 1
            }
        }
        return result
    }
}

/// One encoded form of a secret.
private struct SecretPattern: Hashable {
    let bytes: [UInt8]
    /// How many base64 digits and padding after the pattern may hold bits of the secret.
    var tail = 0
    /// How many bytes may be read in two ways before the rest of the text counts as the secret.
    private static let mostForks = 64

    /// The plain form, and the base64 forms for a secret that begins 0, 1 or 2 bytes after a multiple of three.
    static func forms(of secret: [UInt8]) -> [SecretPattern] {
        [SecretPattern(bytes: secret)]
            + (0..<3).flatMap { before in
                // Digits that also hold bits of neighbouring bytes are unknown, so they are left out.
                let digits = Array(base64([UInt8](repeating: 0, count: before) + secret).utf8.prefix { $0 != UInt8(ascii: "=") })
                let isWhole = (before + secret.count) % 3 == 0
                let own = Array(digits.dropFirst(before == 0 ? 0 : before + 1).dropLast(isWhole ? 0 : 1))
                return [own, own.map(forURL)].map { SecretPattern(bytes: $0, tail: isWhole ? 0 : 3) }
            }
    }

    private static func forURL(_ digit: UInt8) -> UInt8 {
        switch digit {
        case UInt8(ascii: "+"): UInt8(ascii: "-")
        case UInt8(ascii: "/"): UInt8(ascii: "_")
        default: digit
        }
    }

    /// The index at which the secret ends in a text, if it begins at `start`; else nil.
    func end(in text: [UInt8], at start: Int, _ isCutShort: Bool) -> Int? {
        // A quick check, because the secret cannot begin at most places.
        guard text[start] == bytes[0] || "%+\\".utf8.contains(text[start]) else { return nil }
        var (rest, forks): ([(Int, Int)], Int) = ([(0, start)], 0)
        while var (known, index) = rest.popLast() {
            while known < bytes.count {
                guard index < text.count else {
                    if isCutShort, known >= KnownSecrets.shortest { return index }
                    break
                }
                let isPlain = text[index] == bytes[known]
                let escape = EscapedByte(text, index)
                if let escape, escape.byte == bytes[known] {
                    if isPlain { forks += 1 }
                    if forks > Self.mostForks { return index }
                    if isPlain { rest.append((known + 1, index + 1)) }
                    (known, index) = (known + 1, index + escape.length)
                } else if isPlain {
                    (known, index) = (known + 1, index + 1)
                } else {
                    break
                }
            }
            if known == bytes.count { return index + text[index...].prefix(tail).prefix(while: Self.isDigit).count }
        }
        return nil
    }

    private static func isDigit(_ byte: UInt8) -> Bool { (48...57 ~= byte) || (65...90 ~= byte & 0xDF) || "=+/-_".utf8.contains(byte) }
}

/// One byte escaped as in URLs (RFC 3986 §2.1) or JSON (RFC 8259 §7).
private struct EscapedByte {
    let byte: UInt8
    let length: Int

    init?(_ text: [UInt8], _ index: Int) {
        switch text[index] {
        case UInt8(ascii: "%"):
            guard let byte = Self.number(text[index...].dropFirst().prefix(2), digits: 2) else { return nil }
            (self.byte, length) = (byte, 3)
        // A space in a form.
        case UInt8(ascii: "+"): (byte, length) = (0x20, 1)
        case UInt8(ascii: "\\"):
            let rest = text[index...].dropFirst()
            if let next = rest.first, "\"\\/".utf8.contains(next) {
                (byte, length) = (next, 2)
            } else if rest.first == UInt8(ascii: "u"), let byte = Self.number(rest.dropFirst().prefix(4), digits: 4) {
                (self.byte, length) = (byte, 6)
            } else {
                return nil
            }
        default: return nil
        }
    }

    private static func number(_ digits: ArraySlice<UInt8>, digits count: Int) -> UInt8? {
        guard digits.count == count, digits.allSatisfy({ Character(Unicode.Scalar($0)).isHexDigit }) else { return nil }
        return UInt8(String(decoding: digits, as: UTF8.self), radix: 16)
    }
}
