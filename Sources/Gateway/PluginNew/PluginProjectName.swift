/// The name of a plugin's project, and what the code in it is called.
struct PluginProjectName {
    /// The name as it is given: `my-sink`.
    let name: String

    static let rule = "it takes lower-case letters, digits and hyphens, begins with a letter, and has at most 40 characters"
    private static let mostCharacters = 40

    /// Returns nil for a text that is no name.
    init?(_ text: String) {
        let isAllowed = text.utf8.allSatisfy { byte in
            UInt8(ascii: "a")...UInt8(ascii: "z") ~= byte || UInt8(ascii: "0")...UInt8(ascii: "9") ~= byte || byte == UInt8(ascii: "-")
        }
        guard isAllowed, let first = text.utf8.first, first >= UInt8(ascii: "a"), text.utf8.count <= Self.mostCharacters else { return nil }
        name = text
    }

    /// The name of a variable or module: `my_sink`.
    var identifier: String { String(name.map { $0 == "-" ? "_" : $0 }) }

    /// The name of a type: `MySink`.
    var type: String { name.split(separator: "-").map { $0.prefix(1).uppercased() + $0.dropFirst() }.joined() }
}
