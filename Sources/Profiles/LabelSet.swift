import PluginABI
import Telemetry

/// One label: a name and its value.
package struct Label: Equatable, Sendable {
    package var name: String
    package var value: String

    package init(name: String, value: String) {
        (self.name, self.value) = (name, value)
    }
}

/// The labels in `name=` of `/ingest`: `app{key=value,…}`.
///
/// The grammar and its leniency are Pyroscope's: there is no quoting, a value extends to `,` or `}`, the last of several equal
/// names wins, and a label that does not end, or has no value, is left out silently.
package struct LabelSet: Equatable, Sendable {
    /// The label name of the application.
    package static let appName = "__name__"

    /// Sorted by name; names are unique.
    package private(set) var labels: [Label] = []

    /// Why a text is not a label set.
    package enum ParseError: Error, Equatable, CustomStringConvertible {
        case serviceNameRequired
        case invalidServiceName(String)
        case labelNameRequired
        case invalidLabelName(String, character: Character)

        package var description: String {
            switch self {
            case .serviceNameRequired: "service name is required"
            case .invalidServiceName(let name): "invalid service name \(quotedForPeople(name)): only A-Z a-z 0-9 _ . / - are allowed"
            case .labelNameRequired: "label name is required"
            case .invalidLabelName(let name, let character):
                "invalid label name \(quotedForPeople(name)): \(quotedForPeople(String(character))) is not allowed"
            }
        }
    }

    package init() {}

    /// Takes labels that are already sorted by name, without duplicates.
    package init(sorted labels: [Label]) { self.labels = labels }

    /// Reads `app{key=value,…}`.
    package init(parsing text: String) throws(ParseError) {
        // The signs of the grammar are ASCII, which no byte of another character equals.
        let bytes = text.utf8
        let brace = bytes.firstIndex(of: UInt8(ascii: "{")) ?? bytes.endIndex
        // Labels are collected first and sorted once: inserting each in its place would let one long name cost milliseconds.
        var found: [Label] = []
        found.reserveCapacity(8)
        found.append(Label(name: Self.appName, value: try Self.serviceName(bytes[..<brace])))
        defer { labels = Self.sortedLastWins(found) }
        var rest = brace == bytes.endIndex ? bytes[brace...] : bytes[bytes.index(after: brace)...]
        while let equals = rest.firstIndex(where: { $0 == UInt8(ascii: "=") || $0 == UInt8(ascii: "}") }), rest[equals] == UInt8(ascii: "=")
        {
            let value = rest[rest.index(after: equals)...]
            guard let end = value.firstIndex(where: { $0 == UInt8(ascii: ",") || $0 == UInt8(ascii: "}") }) else { break }
            found.append(Label(name: try Self.labelName(rest[..<equals]), value: Self.trimmed(value[..<end])))
            rest = value[value.index(after: end)...]
        }
    }

    private static func sortedLastWins(_ found: [Label]) -> [Label] {
        // Few labels in the right order are usual, and need no sorting.
        if areInOrder(found) { return found }
        var result: [Label] = []
        for (_, label) in found.enumerated().sorted(by: { ($0.element.name, $0.offset) < ($1.element.name, $1.offset) }) {
            if result.last?.name == label.name { result.removeLast() }
            result.append(label)
        }
        return result
    }

    /// The value of a label; setting keeps the order, and nil removes the label.
    package subscript(name: String) -> String? {
        get {
            let index = position(of: name)
            return index < labels.count && labels[index].name.utf8.elementsEqual(name.utf8) ? labels[index].value : nil
        }
        set {
            let index = position(of: name)
            let exists = index < labels.count && labels[index].name.utf8.elementsEqual(name.utf8)
            if let newValue, exists {
                labels[index].value = newValue
            } else if let newValue {
                labels.insert(Label(name: name, value: newValue), at: index)
            } else if exists {
                labels.remove(at: index)
            }
        }
    }

    private func position(of name: String) -> Int {
        labels.firstIndex { !Self.precedes($0.name, name) } ?? labels.count
    }

    /// Compares by bytes: two spellings that look the same are two names.
    private static func precedes(_ a: String, _ b: String) -> Bool {
        let (a, b) = (a.utf8.span, b.utf8.span)
        for index in 0..<min(a.count, b.count) where a[index] != b[index] { return a[index] < b[index] }
        return a.count < b.count
    }

    /// Makes a set of labels whose names must all differ.
    ///
    /// - Throws: the name that occurs twice.
    package init(distinct found: consuming [Label]) throws(DuplicateName) {
        // SDKs usually send them in order.
        if !Self.areInOrder(found) { found.sort { Self.precedes($0.name, $1.name) } }
        for index in found.indices.dropFirst() where !Self.precedes(found[index - 1].name, found[index].name) {
            throw DuplicateName(name: found[index].name)
        }
        labels = found
    }

    /// Whether labels are sorted by name, and no two names are equal.
    private static func areInOrder(_ labels: [Label]) -> Bool {
        labels.indices.dropFirst().allSatisfy { precedes(labels[$0 - 1].name, labels[$0].name) }
    }

    package struct DuplicateName: Error {
        package let name: String
    }

    /// Alloy's rule for received labels: the application becomes `service_name` if there is none, otherwise `app_name`.
    package mutating func addServiceName() {
        let application = self[Self.appName]
        self[self["service_name"] == nil ? "service_name" : "app_name"] = application
    }

    private static func serviceName(_ text: Substring.UTF8View) throws(ParseError) -> String {
        let name = trimmed(text)
        guard !name.isEmpty else { throw .serviceNameRequired }
        guard name.utf8.allSatisfy({ isNameByte($0) || $0 == UInt8(ascii: "/") || $0 == UInt8(ascii: "-") }) else {
            throw .invalidServiceName(name)
        }
        return name
    }

    private static func labelName(_ text: Substring.UTF8View) throws(ParseError) -> String {
        let name = trimmed(text)
        guard !name.isEmpty else { throw .labelNameRequired }
        if let character = name.first(where: { !$0.utf8.allSatisfy(isNameByte) }) {
            throw .invalidLabelName(name, character: character)
        }
        return name
    }

    private static func isNameByte(_ byte: UInt8) -> Bool {
        (48...57 ~= byte) || (65...90 ~= byte & 0xDF) || byte == UInt8(ascii: "_") || byte == UInt8(ascii: ".")
    }

    private static func trimmed(_ text: Substring.UTF8View) -> String {
        // Most texts have nothing to trim.
        if let first = text.first, let last = text.last, 33...126 ~= first, 33...126 ~= last { return String(Substring(text)) }
        var text = Substring(text).unicodeScalars
        while let first = text.first, isWhitespace(first) { text.removeFirst() }
        while let last = text.last, isWhitespace(last) { text.removeLast() }
        return String(text)
    }

    private static func isWhitespace(_ scalar: Unicode.Scalar) -> Bool {
        scalar.isASCII ? scalar.value == 32 || 9...13 ~= scalar.value : scalar.properties.isWhitespace
    }
}
