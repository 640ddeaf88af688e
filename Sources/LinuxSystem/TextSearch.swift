// Swift has these in its library for regular expressions, which takes 1 MiB of memory in a process; the package is built without it.

extension StringProtocol {
    /// Whether the bytes of a text are a part of this one's.
    package func contains(_ other: String) -> Bool {
        guard let first = other.utf8.first else { return true }
        var rest = utf8[...]
        while let place = rest.firstIndex(of: first) {
            if rest[place...].starts(with: other.utf8) { return true }
            rest = rest[rest.index(after: place)...]
        }
        return false
    }
}

extension RangeReplaceableCollection where Element: Equatable {
    /// A copy in which the first occurrences of `other` are replaced, at most `maxReplacements`.
    package func replacing<C: Collection, Replacement: Collection>(
        _ other: C, with replacement: Replacement, maxReplacements: Int = .max
    ) -> Self where C.Element == Element, Replacement.Element == Element {
        var (result, rest, left) = (Self(), self[...], other.isEmpty ? 0 : maxReplacements)
        while left > 0, !rest.isEmpty {
            if rest.starts(with: other) {
                result.append(contentsOf: replacement)
                rest = rest.dropFirst(other.count)
                left -= 1
            } else {
                rest.popFirst().map { result.append($0) }
            }
        }
        result.append(contentsOf: rest)
        return result
    }
}
