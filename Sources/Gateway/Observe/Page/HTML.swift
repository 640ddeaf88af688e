/// A piece of HTML. A text that is put into it is escaped, because most texts come from peers, plugins and destinations.
struct HTML: ExpressibleByStringInterpolation, Sendable, Hashable {
    private(set) var text: String

    init(stringLiteral value: String) { text = value }
    init(stringInterpolation: StringInterpolation) { text = stringInterpolation.text }
    init(escaping text: String) { self.text = Self.escaped(text) }

    struct StringInterpolation: StringInterpolationProtocol {
        fileprivate var text = ""

        init(literalCapacity: Int, interpolationCount: Int) { text.reserveCapacity(literalCapacity + 16 * interpolationCount) }

        mutating func appendLiteral(_ literal: String) { text += literal }
        mutating func appendInterpolation(_ value: String) { text += HTML.escaped(value) }
        mutating func appendInterpolation(_ value: some BinaryInteger) { text += value.description }
        mutating func appendInterpolation(_ value: HTML) { text += value.text }
        mutating func appendInterpolation(_ value: [HTML]) { for piece in value { text += piece.text } }
    }

    static func += (a: inout HTML, b: HTML) { a.text += b.text }

    /// `text` for the content of an element and for an attribute in double quotes. Characters that could reorder or hide what is
    /// beside them are replaced.
    static func escaped(_ text: String) -> String {
        var result = ""
        result.reserveCapacity(text.utf8.count)
        for scalar in text.unicodeScalars {
            switch scalar.value {
            case 0x26: result += "&amp;"
            case 0x3C: result += "&lt;"
            case 0x3E: result += "&gt;"
            case 0x22: result += "&quot;"
            case 0x27: result += "&#39;"
            case 0x09, 0x0A: result += " "
            case 0..<0x20, 0x7F..<0xA0, 0x200B...0x200F, 0x2028...0x202E, 0x2060...0x206F, 0xFEFF, 0xFFFE, 0xFFFF: result += "\u{FFFD}"
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result
    }
}

/// Numbers in a form that people read at a glance.
enum ReadableNumber {
    /// `0`, `0.42`, `7.1`, `12 300`, with units of k and M from a hundred thousand on.
    static func rate(_ value: Double) -> String {
        guard value.isFinite, value > 0.004 else { return "0" }
        if value < 1 { return decimals(value, 2) }
        if value < 100 { return decimals(value, 1) }
        return count(Int(min(value.rounded(), 1e15)))
    }

    /// A count with a narrow space between groups of three digits.
    static func count(_ value: Int) -> String {
        let digits = String(value.magnitude)
        var result = value < 0 ? "-" : ""
        for (index, digit) in digits.enumerated() {
            if index > 0, (digits.count - index).isMultiple(of: 3) { result += "\u{202F}" }
            result.append(digit)
        }
        return result
    }

    /// `0.4 ms`, `850 ms`, `1.25 s`, `12 s`, `4 min`, `2 h`.
    static func seconds(_ value: Double) -> String {
        guard value.isFinite, value > 0 else { return "0 s" }
        if value < 0.9995 { return decimals(value * 1000, value < 0.00995 ? 1 : 0) + " ms" }
        if value < 10 { return decimals(value, 2) + " s" }
        if value < 120 { return decimals(value, 0) + " s" }
        if value < 7200 { return decimals(value / 60, 0) + " min" }
        return decimals(min(value / 3600, 1e9), 0) + " h"
    }

    private static func decimals(_ value: Double, _ places: Int) -> String {
        let scale = [1.0, 10, 100][min(max(places, 0), 2)]
        let whole = Int((value * scale).rounded())
        guard places > 0 else { return count(whole) }
        let digits = String(whole % Int(scale))
        return "\(whole / Int(scale))." + String(repeating: "0", count: places - digits.count) + digits
    }
}
