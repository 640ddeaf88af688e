/// Secrets that a server was sent, to be cut out of what it says: it may repeat them.
///
/// They are found as they are, in base64 (RFC 4648 §4, §5) wherever in it they begin, and with any of their characters escaped as in
/// a URL or in JSON.
public struct KnownSecrets: Sendable {
    /// Shorter ones would be found by chance in words that hold no secret.
    public static let shortest = 6
    public static let mark = "[secret]"

    /// What is looked for, the longest first, so that none is cut in pieces.
    private let patterns: [SecretPattern]

    /// - Parameter secrets: as they are; texts shorter than ``shortest`` bytes are no secrets.
    public init(_ secrets: [String]) {
        let known = Set(secrets.filter { $0.utf8.count >= Self.shortest }.flatMap { SecretPattern.forms(of: Array($0.utf8)) })
        patterns = known.sorted { $0.bytes.count > $1.bytes.count }
    }

    /// The text with a mark for each secret in it.
    public func cut(from text: String) -> String {
        // By bytes: to Swift, a secret with a combining mark behind it ends with another character.
        String(decoding: cut(from: Array(text.utf8), most: .max), as: UTF8.self)
    }

    /// The beginning of a text with a mark for each secret in it.
    ///
    /// - Parameters:
    ///   - most: how many bytes are wanted; a little more may come.
    ///   - isCutShort: whether the end of the text is not its own, so that the beginning of a secret there is one.
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

/// One form of a secret.
private struct SecretPattern: Hashable {
    let bytes: [UInt8]
    /// How many bytes after it may have bits of it: digits of base64 and its padding.
    var tail = 0
    /// How often a byte may be read in two ways before the rest counts as the secret's.
    private static let mostForks = 64

    /// The secret as it is, and what stands for it in base64 of a text that has it after a multiple of three bytes, or one or two more.
    static func forms(of secret: [UInt8]) -> [SecretPattern] {
        [SecretPattern(bytes: secret)]
            + (0..<3).flatMap { before in
                // Digits that have bits of other bytes in them are not known.
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

    /// Where the secret ends in a text; nil when it does not begin there.
    func end(in text: [UInt8], at start: Int, _ isCutShort: Bool) -> Int? {
        // Most places are none where it could begin.
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

/// One byte as URLs (RFC 3986 §2.1) and JSON (RFC 8259 §7) write those that mean something to them.
private struct EscapedByte {
    let byte: UInt8
    let length: Int

    init?(_ text: [UInt8], _ index: Int) {
        switch text[index] {
        case UInt8(ascii: "%"):
            guard let byte = Self.number(text[index...].dropFirst().prefix(2), digits: 2) else { return nil }
            (self.byte, length) = (byte, 3)
        // A blank in a form.
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
