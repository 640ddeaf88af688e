extension String {
    /// The text with every character that is not printable as a space.
    public var printable: String {
        String(
            String.UnicodeScalarView(
                unicodeScalars.map { scalar in
                    switch scalar.properties.generalCategory {
                    case .control, .format, .lineSeparator, .paragraphSeparator, .privateUse, .surrogate, .unassigned: " "
                    default: scalar
                    }
                }))
    }

    /// The beginning that has at most so many bytes, in whole characters.
    public func prefix(utf8 most: Int) -> String {
        var result = ""
        for character in self {
            if result.utf8.count + character.utf8.count > most { break }
            result.append(character)
        }
        return result
    }
}
