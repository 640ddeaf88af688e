/// Reads one JSON object of a configuration member by member, and collects every problem.
///
/// A getter returns the default, or nil, when the member is absent or wrong; a wrong member is added to the problems. After the
/// last getter, ``refuseUnknown()`` reports the members that no getter read. Used by one thread.
public final class ConfigObject {
    /// The object's path in the configuration: `receivers.staging`; empty for the whole text.
    public let path: String
    /// The position of the object, or of the wrong value in its place, in the text.
    public let position: TextPosition
    /// The list that takes every problem; the caller's own, shared with the readers of inner objects.
    public let problems: Problems
    /// Members that are allowed but probably a mistake.
    public let warnings: Problems
    private let members: [JSONMember]
    private let isObject: Bool
    private var asked: Set<String> = []

    /// Makes a reader; anything but an object is reported and treated as an empty object.
    public init(_ value: JSONValue, path: String, problems: Problems, warnings: Problems = Problems()) {
        self.path = path
        self.problems = problems
        self.warnings = warnings
        position = value.position
        if case .object(let members) = value.content {
            self.members = members
            isObject = true
        } else {
            members = []
            isObject = false
            problems.add(path, "must be an object, is \(value.kind)", at: value.position)
        }
    }

    /// The unconverted value of a member; nil when it is absent.
    public func value(_ name: String) -> JSONValue? {
        asked.insert(name)
        return members.first { $0.name == name }?.value
    }

    /// Returns the path of a member: `receivers.staging.url`.
    public func path(_ name: String) -> String { Problems.path(path, name) }

    /// Reports a problem with a member, at its value if there is one; does nothing if this is not an object, which was already
    /// reported.
    public func refuse(_ name: String, _ message: String) {
        guard isObject else { return }
        problems.add(path(name), message, at: value(name)?.position ?? position)
    }

    /// Warns of a member that is allowed but probably a mistake.
    public func warn(_ name: String, _ message: String) {
        warnings.add(path(name), message, at: value(name)?.position ?? position)
    }

    /// Reports each member that no getter read, with a similar known name if there is one.
    public func refuseUnknown() {
        for member in members where !asked.contains(member.name) {
            let hint = nearMiss(member.name, among: asked).map { "; did you mean \($0)?" } ?? ""
            problems.add(path(member.name), "unknown\(hint)", at: member.position)
        }
    }

    private func read<T>(_ name: String, _ wanted: String, _ convert: (JSONValue.Content) -> T?) -> T? {
        // A reference that could not be resolved was already reported.
        guard let value = value(name), value.reference?.isResolved != false else { return nil }
        if let result = convert(value.content) ?? value.typedContent.flatMap(convert) { return result }
        refuse(name, "must be \(wanted), is \(SecretNames.isSecret(path(name)) ? value.kind : value.shown)")
        return nil
    }

    /// Reads a string; nil when the member is absent or wrong.
    public func string(_ name: String) -> String? {
        read(name, "a string") { if case .string(let text) = $0 { text } else { nil } }
    }

    /// Reads true or false.
    public func bool(_ name: String, default fallback: Bool) -> Bool {
        read(name, "true or false") { if case .bool(let value) = $0 { value } else { nil } } ?? fallback
    }

    /// One of the words in `T`.
    public func choice<T: RawRepresentable & CaseIterable>(_ name: String, default fallback: T) -> T
    where T.RawValue == String {
        let words = T.allCases.map { JSONValue.quoted($0.rawValue) }.joined(separator: " or ")
        return read(name, words) { if case .string(let text) = $0 { T(rawValue: text) } else { nil } } ?? fallback
    }

    /// Reads a whole number within `range`; any other number is a problem.
    public func integer(_ name: String, in range: ClosedRange<Int>, default fallback: Int) -> Int {
        let wanted =
            range.upperBound == .max ? "\(range.lowerBound) or more" : "\(range.lowerBound) to \(range.upperBound)"
        return read(name, "a whole number, \(wanted)") {
            guard case .number(let digits) = $0, let number = Int(digits), range.contains(number) else { return nil }
            return number
        } ?? fallback
    }

    /// A duration longer than zero, or also zero with `zeroAllowed`.
    public func duration(_ name: String, default fallback: Duration, zeroAllowed: Bool = false) -> Duration {
        read(name, "a duration such as \"30s\"\(zeroAllowed ? "" : ", longer than 0")") {
            guard case .string(let text) = $0, let span = parseDuration(text), zeroAllowed || span > .zero else {
                return nil
            }
            return span
        } ?? fallback
    }

    /// A size in bytes, more than zero unless `zeroAllowed`, and at most `limit`.
    public func size(_ name: String, default fallback: Int, atMost limit: Int = .max, zeroAllowed: Bool = false) -> Int {
        let least = zeroAllowed ? 0 : 1
        let most = limit == .max ? "" : " and at most \(limit)"
        return read(name, "a size such as \"64MiB\" or a number of bytes, \(zeroAllowed ? "0 or more" : "more than 0")\(most)") {
            let size: Int? =
                switch $0 {
                case .string(let text): parseSize(text)
                case .number(let digits): Int(digits)
                default: nil
                }
            return size.flatMap { least...limit ~= $0 ? $0 : nil }
        } ?? fallback
    }

    /// An array of strings.
    public func strings(_ name: String) -> [String]? {
        read(name, "an array of strings") {
            guard case .array(let elements) = $0 else { return nil }
            let texts = elements.compactMap { if case .string(let text) = $0.content { text } else { nil } }
            return texts.count == elements.count ? texts : nil
        }
    }

    /// An object whose members are all strings, in the order of the text.
    public func stringMembers(_ name: String) -> [(name: String, value: String)] {
        members(of: name).compactMap { member in
            if case .string(let text) = member.value.content { return (member.name, text) }
            problems.add(
                Problems.path(path(name), member.name), "must be a string, is \(member.value.kind)",
                at: member.value.position)
            return nil
        }
    }

    /// A reader for a member that is an object; nil when the member is absent.
    public func object(_ name: String) -> ConfigObject? {
        value(name).map { ConfigObject($0, path: path(name), problems: problems, warnings: warnings) }
    }

    /// The members of an object whose member names are chosen by the user.
    public func members(of name: String) -> [JSONMember] {
        guard let value = value(name) else { return [] }
        if case .object(let members) = value.content { return members }
        refuse(name, "must be an object, is \(value.kind)")
        return []
    }

    /// A reader for one member of such an object.
    public func child(_ member: JSONMember, of name: String) -> ConfigObject {
        ConfigObject(member.value, path: Problems.path(path(name), member.name), problems: problems, warnings: warnings)
    }

    /// Readers for the objects in an array; nil when the member is absent.
    public func objects(_ name: String) -> [ConfigObject]? {
        guard let value = value(name) else { return nil }
        guard case .array(let elements) = value.content else {
            refuse(name, "must be an array of objects, is \(value.kind)")
            return nil
        }
        return elements.enumerated().map { index, element in
            ConfigObject(element, path: "\(path(name))[\(index)]", problems: problems, warnings: warnings)
        }
    }
}
