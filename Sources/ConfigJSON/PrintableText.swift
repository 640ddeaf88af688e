extension String {
    /// The text with each unprintable character replaced by a space.
    public var printable: String {
        // Most texts are.
        if utf8.allSatisfy({ 0x20...0x7E ~= $0 }) { return self }
        return String(
            String.UnicodeScalarView(
                unicodeScalars.map { scalar in
                    switch scalar.properties.generalCategory {
                    case .control, .format, .lineSeparator, .paragraphSeparator, .privateUse, .surrogate, .unassigned: " "
                    default: scalar
                    }
                }))
    }

    /// The longest prefix of whole characters with at most `most` bytes.
    public func prefix(utf8 most: Int) -> String {
        guard utf8.count > most else { return self }
        var result = ""
        for character in self {
            if result.utf8.count + character.utf8.count > most { break }
            result.append(character)
        }
        return result
    }
}
