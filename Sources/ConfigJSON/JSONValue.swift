/// A position in a text: line and column, both from 1, columns in Unicode scalars.
public struct TextPosition: Sendable, Equatable {
    /// The number of the line, from 1.
    public let line: Int
    /// The number of the Unicode scalar in the line, from 1.
    public let column: Int

    /// Makes a position from a line and a column, both counted from 1.
    public init(line: Int, column: Int) {
        self.line = line
        self.column = column
    }
}

/// A JSON value (RFC 8259) with its position in the text.
public struct JSONValue: Sendable {
    /// A value without its position: a scalar, or an array or object with the values in it.
    public indirect enum Content: Sendable {
        case null
        case bool(Bool)
        /// The number as written, so that no digit is lost.
        case number(String)
        case string(String)
        case array([JSONValue])
        /// Members in the order of the text; names are unique.
        case object([JSONMember])
    }

    /// The value itself, with references to the environment replaced where they could be resolved.
    public let content: Content
    /// The position of the value's first character in the text.
    public let position: TextPosition
    /// How a string with references to the environment was written; nil for others.
    public let reference: EnvironmentReference?

    /// Makes a value from its content, its position and, for a string with references to the environment, how it was written.
    public init(_ content: Content, at position: TextPosition, reference: EnvironmentReference? = nil) {
        self.content = content
        self.position = position
        self.reference = reference
    }

    /// The number or boolean in a string that is exactly one reference to the environment; nil for other values.
    public var typedContent: Content? {
        guard reference?.isWhole == true, case .string(let text) = content else { return nil }
        switch JSONParser.parse(Array(text.utf8), dialect: .strict, problems: Problems())?.content {
        case .number(let digits): return .number(digits)
        case .bool(let value): return .bool(value)
        default: return nil
        }
    }

    /// The value as shown in an error message: a short value itself, but never a value from the environment.
    public var shown: String {
        if let reference {
            return reference.text.isEmpty ? "what the environment says" : "what the environment says for \(Self.quoted(reference.text))"
        }
        return switch content {
        case .string, .number, .bool: text
        default: kind
        }
    }

    /// The kind of the value as named in an error message.
    public var kind: String {
        switch content {
        case .null: "null"
        case .bool: "a boolean"
        case .number: "a number"
        case .string: "a string"
        case .array: "an array"
        case .object: "an object"
        }
    }

    /// The value as strict JSON on one line, members in order.
    public var text: String {
        switch content {
        case .null: "null"
        case .bool(let value): value ? "true" : "false"
        case .number(let digits): digits
        case .string(let value): Self.quoted(value)
        case .array(let elements): "[" + elements.map(\.text).joined(separator: ",") + "]"
        case .object(let members):
            "{" + members.map { Self.quoted($0.name) + ":" + $0.value.text }.joined(separator: ",") + "}"
        }
    }

    /// `text` as a JSON string with quotes; control characters including C1 and DEL, line separators, and characters that change
    /// the direction of text become `\u` escapes.
    public static func quoted(_ text: String) -> String {
        var result = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": result += "\\\""
            case "\\": result += "\\\\"
            case "\n": result += "\\n"
            case "\r": result += "\\r"
            case "\t": result += "\\t"
            case "\0"..."\u{1f}", "\u{7f}"..."\u{9f}", "\u{200e}", "\u{200f}", "\u{2028}"..."\u{202e}",
                "\u{2066}"..."\u{2069}":
                let digits = String(scalar.value, radix: 16)
                result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result + "\""
    }

    /// The position of the value at a path such as `endpoint[0].url`, or of the deepest value on the way to it.
    ///
    /// - Parameters:
    ///   - path: names and indexes, as in messages about a config.
    ///   - ofName: whether to return the position of the last member's name instead of its value.
    public func place(of path: Substring, ofName: Bool = false) -> TextPosition {
        guard ofName, let dot = path.lastIndex(of: "."), !path[dot...].contains("[") else {
            if ofName, case .object(let members) = content, let member = members.first(where: { $0.name == path }) {
                return member.position
            }
            return nearest(to: path).position
        }
        return nearest(to: path[..<dot]).place(of: path[path.index(after: dot)...], ofName: true)
    }

    /// The value at a path such as `endpoint[0].url`, or the deepest value on the way to it.
    public func nearest(to path: Substring) -> JSONValue {
        let step = path.drop { $0 == "." || $0 == "[" }
        let name = step.prefix { $0 != "." && $0 != "[" && $0 != "]" }
        let rest = step.dropFirst(name.count).drop { $0 == "]" }
        switch content {
        case .object(let members):
            guard let member = members.first(where: { $0.name == name }) else { return self }
            return member.value.nearest(to: rest)
        case .array(let elements):
            guard let index = Int(name), elements.indices.contains(index) else { return self }
            return elements[index].nearest(to: rest)
        default: return self
        }
    }
}

/// One member of a JSON object.
public struct JSONMember: Sendable {
    /// The member's name, with escapes decoded.
    public let name: String
    /// The position of the name.
    public let position: TextPosition
    /// The member's value, with its own position.
    public let value: JSONValue
}
