/// Goes through JSON text without making values of it; what nobody asks for is skipped, at any depth up to a limit.
struct JSONScanner {
    typealias Problem = ReadProfile.Problem

    /// How deep arrays and objects may be nested.
    static let maximumDepth = 256

    private(set) var index: Int
    private let end: Int

    init(_ range: Range<Int>) { (index, end) = (range.lowerBound, range.upperBound) }

    // MARK: Structure

    /// Reads the beginning of an array or an object, and whether it is empty; an empty one is read to its end.
    mutating func open(_ bracket: Unicode.Scalar, _ what: String, _ bytes: Span<UInt8>) throws(Problem) -> Bool {
        guard take(UInt8(ascii: bracket), bytes) else {
            throw Problem("\(what) must be \(bracket == "{" ? "an object" : "an array"), at byte \(index)")
        }
        return !take(UInt8(ascii: bracket == "{" ? "}" : "]"), bytes)
    }

    /// Reads what comes after an element: true after a comma, false after the closing bracket.
    mutating func more(_ bracket: Unicode.Scalar, _ bytes: Span<UInt8>) throws(Problem) -> Bool {
        if take(UInt8(ascii: ","), bytes) { return true }
        if take(UInt8(ascii: bracket == "{" ? "}" : "]"), bytes) { return false }
        throw Problem("the JSON has neither a comma nor a closing bracket at byte \(index)")
    }

    /// Reads the name of a member and the colon after it; escapes stay as they are written.
    mutating func name(_ bytes: Span<UInt8>) throws(Problem) -> String {
        let range = try string(bytes)
        guard take(UInt8(ascii: ":"), bytes) else { throw Problem("the JSON has no colon after a member's name, at byte \(index)") }
        return StackTree.text(bytes.extracting(range), 64)
    }

    /// Reads the byte, after blanks.
    private mutating func take(_ byte: UInt8, _ bytes: Span<UInt8>) -> Bool {
        skipBlank(bytes)
        guard index < end, bytes[index] == byte else { return false }
        index += 1
        return true
    }

    private mutating func skipBlank(_ bytes: Span<UInt8>) {
        while index < end, case let byte = bytes[index], byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 { index += 1 }
    }

    /// Checks that nothing but blanks is left.
    mutating func finish(_ bytes: Span<UInt8>) throws(Problem) {
        skipBlank(bytes)
        guard index == end else { throw Problem("the JSON is followed by something else, at byte \(index)") }
    }

    // MARK: Values

    /// Reads a string, and returns where its content lies, with its escapes.
    mutating func string(_ bytes: Span<UInt8>) throws(Problem) -> Range<Int> {
        guard take(UInt8(ascii: "\""), bytes) else { throw Problem("the JSON has no text in quotes at byte \(index)") }
        let start = index
        while index < end {
            switch bytes[index] {
            case UInt8(ascii: "\""):
                index += 1
                return start..<(index - 1)
            case UInt8(ascii: "\\"): index = min(end, index + 2)
            default: index += 1
            }
        }
        throw Problem("the JSON ends inside the text that begins at byte \(start)")
    }

    /// Reads a number.
    mutating func number(_ what: @autoclosure () -> String, _ bytes: Span<UInt8>) throws(Problem) -> Double {
        skipBlank(bytes)
        let start = index
        while index < end, Self.isOfNumber(bytes[index]) { index += 1 }
        let text = StackTree.text(bytes.extracting(start..<index), 40)
        guard start < index, let number = Double(text), number.isFinite else {
            throw Problem("\(what()) must be a number, at byte \(start)")
        }
        return number
    }

    private static func isOfNumber(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "+"), UInt8(ascii: "."), UInt8(ascii: "e"),
            UInt8(ascii: "E"):
            true
        default: false
        }
    }

    /// Reads a number that is an index below `count`.
    mutating func index(below count: Int, _ what: @autoclosure () -> String, _ bytes: Span<UInt8>) throws(Problem) -> Int {
        let number = try number(what(), bytes)
        guard let index = Int(exactly: number), 0..<count ~= index else {
            throw Problem("\(what()) is \(Int(exactly: number).map(String.init) ?? "\(number)"), and the file has \(count) frames")
        }
        return index
    }

    /// Skips a value, and returns where it lies.
    mutating func skip(_ bytes: Span<UInt8>) throws(Problem) -> Range<Int> {
        skipBlank(bytes)
        let start = index
        var depth = 0
        repeat {
            skipBlank(bytes)
            guard index < end else { throw Problem("the JSON ends inside a value") }
            switch bytes[index] {
            case UInt8(ascii: "\""): _ = try string(bytes)
            case UInt8(ascii: "{"), UInt8(ascii: "["):
                depth += 1
                guard depth <= Self.maximumDepth else { throw Problem("the JSON is nested deeper than \(Self.maximumDepth) levels") }
                index += 1
            case UInt8(ascii: "}"), UInt8(ascii: "]"):
                guard depth > 0 else { throw Problem("the JSON has a closing bracket instead of a value, at byte \(index)") }
                depth -= 1
                index += 1
            case UInt8(ascii: ","), UInt8(ascii: ":"):
                guard depth > 0 else { throw Problem("the JSON has no value at byte \(index)") }
                index += 1
            default: try skipWord(bytes)
            }
        } while depth > 0
        return start..<index
    }

    private mutating func skipWord(_ bytes: Span<UInt8>) throws(Problem) {
        let start = index
        while index < end, Self.isOfNumber(bytes[index]) || (0x61...0x7A).contains(bytes[index]) { index += 1 }
        guard index > start else { throw Problem("the JSON has no value at byte \(index)") }
    }

    /// The text of a string, with its escapes decoded.
    static func text(_ range: Range<Int>, _ bytes: Span<UInt8>) -> [UInt8] {
        var (result, index): ([UInt8], Int) = ([], range.lowerBound)
        result.reserveCapacity(range.count)
        while index < range.upperBound {
            guard bytes[index] == UInt8(ascii: "\\"), index + 1 < range.upperBound else {
                result.append(bytes[index])
                index += 1
                continue
            }
            index += 2
            switch bytes[index - 1] {
            case UInt8(ascii: "u"):
                var code = hexadecimal(index, range, bytes)
                index = min(range.upperBound, index + 4)
                // A character beyond U+FFFF is written as two escapes (RFC 8259 §7).
                if 0xD800..<0xDC00 ~= code, index + 1 < range.upperBound, bytes[index] == UInt8(ascii: "\\"),
                    case let low = hexadecimal(index + 2, range, bytes), 0xDC00..<0xE000 ~= low
                {
                    code = 0x10000 + (code - 0xD800) << 10 + (low - 0xDC00)
                    index = min(range.upperBound, index + 6)
                }
                result.append(contentsOf: String(Unicode.Scalar(code) ?? "\u{FFFD}").utf8)
            case UInt8(ascii: "n"), UInt8(ascii: "r"), UInt8(ascii: "t"), UInt8(ascii: "b"), UInt8(ascii: "f"): result.append(0x20)
            case let other: result.append(other)
            }
        }
        return result
    }

    /// The number of four hexadecimal digits; an invalid one is no character.
    private static func hexadecimal(_ start: Int, _ range: Range<Int>, _ bytes: Span<UInt8>) -> UInt32 {
        guard start + 4 <= range.upperBound else { return 0xD800 }
        var code: UInt32 = 0
        for index in start..<(start + 4) {
            guard let digit = Character(Unicode.Scalar(bytes[index])).hexDigitValue else { return 0xD800 }
            code = code << 4 + UInt32(digit)
        }
        return code
    }
}
