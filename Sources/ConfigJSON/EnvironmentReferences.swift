import Glibc
import LinuxSystem

/// How a string with references to environment variables was written.
public struct EnvironmentReference: Sendable {
    /// The string as in the file: `${PORT}`.
    public let text: String
    /// Whether the string is exactly one reference, so that it may also give a number or a boolean.
    public let isWhole: Bool
    /// Whether every variable in it had a value.
    public let isResolved: Bool
}

/// The value of an environment variable; nil when it is not set.
public func environmentVariable(_ name: String) -> [UInt8]? {
    unsafe getenv(name).map { unsafe Array(UnsafeBufferPointer(start: $0, count: strlen($0))).map { UInt8(bitPattern: $0) } }
}

/// A text in which `${NAME}` and `${NAME:-default}` are replaced by the values of variables; the values are not expanded again.
///
/// `$${` gives `${`; a `$` before anything else stays. As in a shell, the default is used for a variable that is not set or empty.
struct ExpandedText {
    /// Why a text cannot be expanded; the reason may name a variable but never contains the text, which may be a secret.
    struct Failure: Error, Equatable {
        let reason: String
    }

    private(set) var text = String.UnicodeScalarView()
    private var references = 0
    private var isMixed = false

    var hasReference: Bool { references > 0 }
    var isWhole: Bool { references == 1 && !isMixed }

    private static let hint = "; \"$${\" stands for a plain \"${\""

    init(_ source: String, _ variable: (String) -> [UInt8]?) throws(Failure) {
        var rest = source.unicodeScalars[...]
        while let dollar = rest.firstIndex(of: "$") {
            append(rest[..<dollar])
            rest = rest[dollar...]
            if rest.starts(with: "$${".unicodeScalars) {
                append("${".unicodeScalars[...])
                rest = rest.dropFirst(3)
            } else if rest.starts(with: "${".unicodeScalars) {
                guard let end = rest.firstIndex(of: "}") else {
                    throw Failure(reason: "holds \"${\" without the \"}\" that ends it\(Self.hint)")
                }
                text += try Self.value(of: rest[..<end].dropFirst(2), variable).unicodeScalars
                references += 1
                rest = rest[rest.index(after: end)...]
            } else {
                append(rest.prefix(1))
                rest = rest.dropFirst()
            }
        }
        append(rest)
    }

    private mutating func append(_ part: String.UnicodeScalarView.SubSequence) {
        text += part
        isMixed = isMixed || !part.isEmpty
    }

    /// The value of one reference, from the text between its braces.
    private static func value(
        of inside: String.UnicodeScalarView.SubSequence, _ variable: (String) -> [UInt8]?
    ) throws(Failure) -> String {
        let name = inside.prefix { $0 == "_" || ("a"..."z").contains($0) || ("A"..."Z").contains($0) || ("0"..."9").contains($0) }
        let rest = inside.dropFirst(name.count)
        guard let first = name.first, !("0"..."9").contains(first), rest.isEmpty || rest.starts(with: ":-".unicodeScalars) else {
            throw Failure(
                reason:
                    "holds a \"${\" that is neither ${NAME} nor ${NAME:-default}, with a name of A-Z a-z 0-9 _ that begins with no digit\(hint)"
            )
        }
        guard !String(rest).contains("${") else {
            throw Failure(reason: "holds a default of ${\(String(name))} with another reference in it, which is not taken")
        }
        let value = variable(String(name))
        if !rest.isEmpty, value?.isEmpty != false { return String(rest.dropFirst(2)) }
        guard let value else { throw Failure(reason: "the environment variable \(String(name)) is not set, and no default is given") }
        guard let text = String(validating: value, as: UTF8.self) else {
            throw Failure(reason: "the environment variable \(String(name)) is not valid UTF-8")
        }
        return text
    }
}

extension JSONValue {
    /// This value with the references in all its strings replaced; member names are not changed.
    ///
    /// - Parameters:
    ///   - variable: returns the value of a variable; nil when it is not set.
    ///   - problems: receives the strings that cannot be expanded, which stay as they were written.
    public func expanded(_ variable: (String) -> [UInt8]?, problems: Problems) -> JSONValue {
        mapStrings { string, source, path in
            do throws(ExpandedText.Failure) {
                let expanded = try ExpandedText(source, variable)
                let reference = EnvironmentReference(text: source, isWhole: expanded.isWhole, isResolved: true)
                return JSONValue(
                    .string(String(expanded.text)), at: string.position, reference: expanded.hasReference ? reference : nil)
            } catch {
                problems.add(path, error.reason, at: string.position)
                let reference = EnvironmentReference(text: source, isWhole: false, isResolved: false)
                return JSONValue(string.content, at: string.position, reference: reference)
            }
        }
    }

    /// The paths of the strings that are exactly one reference, in the form used in error messages.
    public var wholeReferences: Set<String> {
        var paths: Set<String> = []
        _ = mapStrings { string, _, path in
            if string.reference?.isWhole == true { paths.insert(path) }
            return string
        }
        return paths
    }

    /// This value with those strings marked as one reference for whose path `isReference` returns true.
    public func markingReferences(_ isReference: (String) -> Bool) -> JSONValue {
        mapStrings { string, _, path in
            guard isReference(path) else { return string }
            let reference = EnvironmentReference(text: "", isWhole: true, isResolved: true)
            return JSONValue(string.content, at: string.position, reference: reference)
        }
    }

    private func mapStrings(_ path: String = "", _ replace: (JSONValue, _ text: String, _ path: String) -> JSONValue) -> JSONValue {
        switch content {
        case .null, .bool, .number: return self
        case .string(let text): return replace(self, text, path)
        case .array(let elements):
            return JSONValue(.array(elements.enumerated().map { $1.mapStrings("\(path)[\($0)]", replace) }), at: position)
        case .object(let members):
            let mapped = members.map { member in
                let value = member.value.mapStrings(Problems.path(path, member.name), replace)
                return JSONMember(name: member.name, position: member.position, value: value)
            }
            return JSONValue(.object(mapped), at: position)
        }
    }
}
