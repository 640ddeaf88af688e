/// A problem in a configuration.
public struct Problem: Error, Sendable, Equatable, CustomStringConvertible {
    /// The position in the text; nil when there is none, as for an absent member.
    public let position: TextPosition?
    /// The path of the member: `receivers.staging.retry`; empty for the whole text.
    public let path: String
    /// The problem in words, with the value.
    public let message: String

    /// Makes a problem from its position, the member's path and a message in words.
    public init(position: TextPosition?, path: String, message: String) {
        self.position = position
        self.path = path
        self.message = message
    }

    /// The path and the message, such as `receivers.staging: must be an object, is null`, or the message alone when the path is
    /// empty.
    public var description: String { path.isEmpty ? message : "\(path): \(message)" }
}

/// Collects all problems, so that a person can fix a file in one go; used by one thread.
public final class Problems {
    /// The problems so far, in the order in which they were found.
    public private(set) var list: [Problem] = []

    /// Makes an empty list.
    public init() {}

    /// Adds a problem with the member at `path`; an empty path means the whole text, a nil position means an unknown one.
    public func add(_ path: String, _ message: String, at position: TextPosition?) {
        list.append(Problem(position: position, path: path, message: message))
    }

    /// The path of a member: `path.name`, or `path["odd name"]` when the name has other characters than letters, digits, `_` and
    /// `-`.
    public static func path(_ path: String, _ name: String) -> String {
        let isPlain =
            !name.isEmpty && name.utf8.allSatisfy { $0 == 95 || $0 == 45 || (48...57 ~= $0) || (65...90 ~= $0 & 0xDF) }
        if !isPlain { return "\(path)[\(JSONValue.quoted(name))]" }
        return path.isEmpty ? name : "\(path).\(name)"
    }
}

/// The candidate that is most similar to `name`, if one is similar enough.
public func nearMiss(_ name: String, among candidates: some Sequence<String>) -> String? {
    let limit = max(1, name.count / 3)
    let scored = candidates.map { (distance: editDistance(Array(name.lowercased()), Array($0.lowercased())), name: $0) }
    return scored.filter { $0.distance <= limit }.min { ($0.distance, $0.name) < ($1.distance, $1.name) }?.name
}

/// The number of characters to insert, remove, replace or swap with their neighbour.
private func editDistance(_ a: [Character], _ b: [Character]) -> Int {
    var rows = [Array(0...b.count)]
    for i in 0..<a.count {
        var row = [i + 1]
        for j in 0..<b.count {
            var best = min(rows[i][j + 1] + 1, row[j] + 1, rows[i][j] + (a[i] == b[j] ? 0 : 1))
            if i > 0, j > 0, a[i] == b[j - 1], a[i - 1] == b[j] { best = min(best, rows[i - 1][j - 1] + 1) }
            row.append(best)
        }
        rows.append(row)
    }
    return rows[a.count][b.count]
}
