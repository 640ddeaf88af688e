/// Parses JSON text into values with their positions.
///
/// The relaxed dialect also accepts `//` and `/* */` comments and a comma after the last element.
public struct JSONParser {
    /// The syntax to accept: RFC 8259 only, or also comments and a comma after the last element.
    public enum Dialect: Sendable { case strict, relaxed }

    /// How deep arrays and objects may be nested.
    public static let maximumDepth = 64

    private let scalars: [Unicode.Scalar]
    private let dialect: Dialect
    private let problems: Problems
    private var index = 0
    private var line = 1
    private var lineStart = 0
    private var depth = 0

    /// Thrown at the first syntax error, which ends the parsing and is already in the problems.
    private struct Stop: Error {}

    private init(_ text: String, _ dialect: Dialect, _ problems: Problems) {
        scalars = Array(text.unicodeScalars)
        self.dialect = dialect
        self.problems = problems
    }

    /// Parses exactly one value; returns nil when the text is not valid JSON.
    ///
    /// A duplicate member is reported as a problem; the first one is kept and parsing goes on.
    public static func parse(_ bytes: [UInt8], dialect: Dialect, problems: Problems) -> JSONValue? {
        let text: String
        do throws(UTF8.ValidationError) {
            text = String(copying: try UTF8Span(validating: bytes.span))
        } catch {
            let valid = String(decoding: bytes[..<error.byteOffsets.lowerBound], as: UTF8.self).unicodeScalars
            let lines = valid.split(separator: "\n", omittingEmptySubsequences: false)
            let place = TextPosition(line: lines.count, column: (lines.last?.count ?? 0) + 1)
            problems.add("", "the text is not valid UTF-8", at: place)
            return nil
        }
        var parser = JSONParser(text, dialect, problems)
        do {
            try parser.skipBlank()
            let value = try parser.value(path: "")
            try parser.skipBlank()
            guard parser.index == parser.scalars.count else { throw parser.stop("unexpected text after the end") }
            return value
        } catch { return nil }
    }

    private var position: TextPosition { TextPosition(line: line, column: index - lineStart + 1) }
    private var next: Unicode.Scalar? { index < scalars.count ? scalars[index] : nil }
    private var nextIsDigit: Bool { next.map { ("0"..."9").contains($0) } ?? false }

    private func stop(_ message: String) -> Stop {
        problems.add("", message, at: position)
        return Stop()
    }

    /// An error that names the next character.
    private func unexpected(_ wanted: String) -> Stop {
        guard let next else { return stop("expected \(wanted), found the end of the text") }
        return stop("expected \(wanted), found \(JSONValue.quoted(String(next)))")
    }

    private mutating func advance() {
        if scalars[index] == "\n" {
            line += 1
            lineStart = index + 1
        }
        index += 1
    }

    private mutating func take(_ scalar: Unicode.Scalar) -> Bool {
        guard next == scalar else { return false }
        advance()
        return true
    }

    private mutating func skipBlank() throws {
        if index == 0, next == "\u{feff}" {
            advance()
            lineStart = 1
        }
        while let next {
            switch next {
            case " ", "\t", "\r", "\n": advance()
            case "/" where dialect == .relaxed: try skipComment()
            default: return
            }
        }
    }

    private mutating func skipComment() throws {
        let start = stop
        advance()
        if take("/") {
            while let next, next != "\n" { advance() }
        } else if take("*") {
            while !(next == "*" && index + 1 < scalars.count && scalars[index + 1] == "/") {
                guard next != nil else { throw start("a comment that does not end") }
                advance()
            }
            advance()
            advance()
        } else {
            throw unexpected("a comment")
        }
    }

    private mutating func value(path: String) throws -> JSONValue {
        let place = position
        switch next {
        case "{": return JSONValue(.object(try object(path)), at: place)
        case "[": return JSONValue(.array(try array(path)), at: place)
        case "\"": return JSONValue(.string(try string()), at: place)
        case "-": return JSONValue(.number(try number()), at: place)
        default: return JSONValue(nextIsDigit ? .number(try number()) : try word(), at: place)
        }
    }

    private mutating func word() throws -> JSONValue.Content {
        let words: [(String, JSONValue.Content)] = [("null", .null), ("true", .bool(true)), ("false", .bool(false))]
        for (word, content) in words where scalars[index...].starts(with: word.unicodeScalars) {
            for _ in word.unicodeScalars { advance() }
            return content
        }
        throw unexpected("a value")
    }

    private mutating func object(_ path: String) throws -> [JSONMember] {
        var members: [JSONMember] = []
        var seen: Set<String> = []
        try elements("}") { parser in
            guard parser.next == "\"" else { throw parser.unexpected("a member name in quotes") }
            let place = parser.position
            let name = try parser.string()
            let memberPath = Problems.path(path, name)
            try parser.skipBlank()
            guard parser.take(":") else { throw parser.unexpected("\":\"") }
            try parser.skipBlank()
            let value = try parser.value(path: memberPath)
            if seen.insert(name).inserted {
                members.append(JSONMember(name: name, position: place, value: value))
            } else {
                parser.problems.add(memberPath, "appears twice in one object", at: place)
            }
        }
        return members
    }

    private mutating func array(_ path: String) throws -> [JSONValue] {
        var values: [JSONValue] = []
        try elements("]") { parser in values.append(try parser.value(path: "\(path)[\(values.count)]")) }
        return values
    }

    /// Parses the elements between the opening bracket, which is the next character, and `end`.
    private mutating func elements(_ end: Unicode.Scalar, _ element: (inout JSONParser) throws -> Void) throws {
        guard depth < Self.maximumDepth else { throw stop("nested deeper than \(Self.maximumDepth)") }
        depth += 1
        defer { depth -= 1 }
        advance()
        try skipBlank()
        var isFirst = true
        while !take(end) {
            if !isFirst {
                guard take(",") else { throw unexpected("\",\" or \"\(end)\"") }
                try skipBlank()
                if dialect == .relaxed, take(end) { return }
            }
            isFirst = false
            try element(&self)
            try skipBlank()
        }
    }

    private mutating func number() throws -> String {
        let start = index
        _ = take("-")
        if !take("0") { try digits() }
        if take(".") { try digits() }
        if take("e") || take("E") {
            _ = take("+") || take("-")
            try digits()
        }
        return text(from: start)
    }

    private mutating func digits() throws {
        guard nextIsDigit else { throw unexpected("a digit") }
        while nextIsDigit { advance() }
    }

    private func text(from start: Int) -> String {
        var text = String.UnicodeScalarView()
        text.append(contentsOf: scalars[start..<index])
        return String(text)
    }

    private mutating func string() throws -> String {
        advance()
        var result = String.UnicodeScalarView()
        while let next {
            switch next {
            case "\"":
                advance()
                return String(result)
            case "\\": result.append(try escape())
            case "\0"..."\u{1f}": throw unexpected("the end of the string")
            default:
                result.append(next)
                advance()
            }
        }
        throw stop("a string that does not end")
    }

    private mutating func escape() throws -> Unicode.Scalar {
        advance()
        let simple: [Unicode.Scalar: Unicode.Scalar] = [
            "\"": "\"", "\\": "\\", "/": "/", "b": "\u{8}", "f": "\u{c}", "n": "\n", "r": "\r", "t": "\t",
        ]
        if let next, let scalar = simple[next] {
            advance()
            return scalar
        }
        guard take("u") else { throw unexpected("an escape") }
        var code = try hexadecimal()
        // A character beyond U+FFFF is written as two escapes (RFC 8259 §7).
        if (0xD800..<0xDC00).contains(code), take("\\"), take("u") {
            let low = try hexadecimal()
            guard (0xDC00..<0xE000).contains(low) else { throw stop("a \\u escape with half a character") }
            code = 0x10000 + (code - 0xD800) << 10 + (low - 0xDC00)
        }
        guard let scalar = Unicode.Scalar(code) else { throw stop("a \\u escape with half a character") }
        return scalar
    }

    private mutating func hexadecimal() throws -> UInt32 {
        var code: UInt32 = 0
        for _ in 0..<4 {
            guard let next, next.isASCII, let digit = Character(next).hexDigitValue else {
                throw unexpected("a hexadecimal digit")
            }
            code = code * 16 + UInt32(digit)
            advance()
        }
        return code
    }
}
