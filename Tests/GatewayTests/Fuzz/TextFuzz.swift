import ConfigJSON

@testable import Gateway
@testable import HTTPServer
@testable import Profiles
@testable import Receivers

// MARK: Labels

/// A label set is sorted, and is the same set when it is written and read again.
func fuzzLabels(_ bytes: [UInt8]) {
    guard let text = String(validating: bytes, as: UTF8.self) else { return }
    guard var labels = try? LabelSet(parsing: text) else { return }
    checkOrder(labels)
    let pairs = labels.labels.map { "\($0.name)=\($0.value)" }.joined(separator: ",")
    promise((try? LabelSet(parsing: "app{\(pairs)}")) == labels, "another set when read again")
    labels.addServiceName()
    checkOrder(labels)
    promise(labels["service_name"] != nil, "no service_name")
}

/// Checks that labels are sorted by bytes, and that each name occurs once and finds its label.
func checkOrder(_ set: LabelSet) {
    let names = set.labels.map(\.name)
    promise(zip(names, names.dropFirst()).allSatisfy { $0.utf8.lexicographicallyPrecedes($1.utf8) }, "labels out of order: \(names)")
    promise(set.labels.allSatisfy { set[$0.name] == $0.value }, "a label that is not found by its name")
}

// MARK: Queries

/// The first parameter of a name is found and decoded once, and any text is read as a time.
func fuzzQuery(_ bytes: [UInt8]) {
    let query = QueryString(bytes[...])
    for pair in bytes.split(separator: UInt8(ascii: "&")) {
        guard let name = String(validating: pair.prefix { $0 != UInt8(ascii: "=") }, as: UTF8.self) else { continue }
        guard let raw = query.raw(name) else { fatalError("broken promise: a parameter is not found") }
        promise(raw.isEmpty || raw.startIndex >= bytes.startIndex && raw.endIndex <= bytes.endIndex, "a value outside of the query")
        guard let value = try? query.value(name) else { continue }
        promise(value.count <= raw.count, "a value longer than its encoding")
        let encoded = value.flatMap { [UInt8(ascii: "%")] + hexadecimal($0) }
        promise((try? QueryString((Array("x=".utf8) + encoded)[...]).value("x")) == value, "another value when encoded again")
    }
    let text = String(decoding: bytes, as: UTF8.self)
    let now: Int64 = 1_790_000_000_000_000_000
    promise(SenderTime.parse(" _,\(text)_ ", now: now) == SenderTime.parse(text, now: now), "blanks tell another time")
    _ = SenderTime.parse(text, now: .max)
    _ = SenderTime.parse(text, now: .min)
}

private func hexadecimal(_ byte: UInt8) -> [UInt8] {
    let digits = Array("0123456789abcdef".utf8)
    return [digits[Int(byte >> 4)], digits[Int(byte & 15)]]
}

/// A multipart body is never taken for text; the input is a `format` and, after a line feed, a content type.
func fuzzContentType(_ bytes: [UInt8]) {
    let lines = bytes.split(separator: 10, maxSplits: 1, omittingEmptySubsequences: false).map { String(decoding: $0, as: UTF8.self) }
    let type = lines.count > 1 ? lines[1] : ""
    let format = ProfileFormat(format: lines[0], contentType: type)
    promise(format == .folded || lines[0] == format.rawValue || !type.isEmpty, "a format that nobody named")
    promise(!type.contains("multipart/form-data") || format != .folded, "multipart taken for text")
}

// MARK: Configs

/// A config is valid or has problems within its text, and its JSON is the same when it is written and read again.
func fuzzConfig(_ bytes: [UInt8]) {
    let file = ConfigFile(path: "gateway.json", text: bytes)
    let lines = bytes.count { $0 == 10 } + 1
    for problem in file.problems + file.warnings {
        guard let position = problem.position else { continue }
        promise(1...lines ~= position.line && 1...(bytes.count + 1) ~= position.column, "a problem outside of the text")
    }
    promise(file.lines.count == file.problems.count + file.warnings.count, "a line too many or too few")
    if file.problems.isEmpty {
        let names = file.config.receivers.map(\.name)
        promise(!names.isEmpty && !file.config.listeners.isEmpty, "nothing to do, and no problem")
        promise(file.config.listeners.allSatisfy { $0.forwardTo.allSatisfy(names.contains) }, "an unknown receiver, and no problem")
    }
    guard let value = JSONParser.parse(bytes, dialect: .relaxed, problems: Problems()) else { return }
    let again = JSONParser.parse(Array(value.text.utf8), dialect: .strict, problems: Problems())
    promise(again?.text == value.text, "other JSON when read again")
}

/// A text without a reference stays, an escaped one becomes the original, and the value of a variable is not expanded.
func fuzzReferences(_ bytes: [UInt8]) {
    guard let text = String(validating: bytes, as: UTF8.self) else { return }
    /// Expands a text, and returns the names of the variables that were asked for.
    func expand(_ text: String) -> (value: JSONValue, problems: [Problem], names: [String]) {
        let problems = Problems()
        var names: [String] = []
        let value = JSONValue(.string(text), at: TextPosition(line: 1, column: 1)).expanded(
            { name in
                names.append(name)
                return ["A": Array("${B} $${ }".utf8), "B": [], "C": [0xFF]][name]
            }, problems: problems)
        return (value, problems.list, names)
    }
    func content(_ value: JSONValue) -> String? { if case .string(let text) = value.content { text } else { nil } }
    let (value, problems, names) = expand(text)
    promise(problems.count < 2 && (problems.isEmpty || content(value) == text), "what cannot be replaced is not as it was")
    promise(names.allSatisfy { $0.wholeMatch(of: /[A-Za-z_][A-Za-z0-9_]*/) != nil }, "a variable whose name is none: \(names)")
    promise(problems.allSatisfy { !$0.message.contains("${B} $${ }") }, "a problem with a value in it")
    if problems.isEmpty, names.isEmpty { promise(value.reference == nil, "a reference to nothing") }
    if !text.unicodeScalars.contains("$") { promise(problems.isEmpty && content(value) == text, "another text without a dollar") }
    if text == "${A}" { promise(content(value) == "${B} $${ }" && names == ["A"], "a value that was looked into") }
    var escaped = String.UnicodeScalarView()
    for (scalar, next) in zip(text.unicodeScalars, Array(text.unicodeScalars.dropFirst()) + ["x"]) {
        escaped.append(contentsOf: scalar == "$" && next == "{" ? ["$", "$"] : [scalar])
    }
    let plain = expand(String(escaped))
    promise(plain.problems.isEmpty && plain.names.isEmpty, "an escaped text with a reference")
    promise(content(plain.value).map { Array($0.utf8) } == bytes, "another text when escaped")
}

/// Checks that an answer of the type JSON is valid JSON.
func checkJSON(_ response: Response) {
    guard !response.body.isEmpty, !response.headers.contains(where: { $0.name == "Content-Encoding" }) else { return }
    guard response.headers.contains(where: { $0.name == "Content-Type" && $0.value == "application/json" }) else { return }
    let problems = Problems()
    promise(JSONParser.parse(response.body, dialect: .strict, problems: problems) != nil, "no JSON: \(problems.list)")
}
