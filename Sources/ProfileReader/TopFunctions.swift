extension ReadProfile {
    /// What one function counts, as `go tool pprof -top` has it.
    public struct TopFunction: Sendable, Equatable {
        /// The function's name; a function without one has the file's name in brackets, or `<unknown>`.
        public var name: String
        /// What its own code counts: the stacks that end in it (`flat`).
        public var own: Int64
        /// What it counts with everything called from it; a stack in which it occurs several times counts once (`cum`).
        public var total: Int64
    }

    /// The functions that count for a sample type, those that count most by themselves first, at most `limit`; none for an unknown one.
    public func topFunctions(sampleType: Int, limit: Int = .max) -> [TopFunction] {
        guard sampleTypes.indices.contains(sampleType) else { return [] }
        let totals = tree.totals(sampleType, isClamped: false)
        var functions = tree.names.map { TopFunction(name: $0, own: 0, total: 0) }
        // How often each function occurs on the way to the node.
        var occurrences = [Int32](repeating: 0, count: functions.count)
        tree.walk { node in
            guard node > 0 else { return }
            let name = Int(tree.nameOf[node])
            functions[name].own = sum(functions[name].own, tree.value(node, sampleType))
            if occurrences[name] == 0 { functions[name].total = sum(functions[name].total, totals[node]) }
            occurrences[name] += 1
        } leave: { node in
            if node > 0 { occurrences[Int(tree.nameOf[node])] -= 1 }
        }
        let counting = functions.filter { $0.own != 0 || $0.total != 0 }
        return Array(counting.sorted { ($1.own, $1.total, $0.name) < ($0.own, $0.total, $1.name) }.prefix(max(0, limit)))
    }
}

extension ReadProfile {
    /// The stacks of a sample type as text, one a line: names from the root to the leaf with `;` between them, a space, the value.
    ///
    /// A `;` in a name becomes a comma. The stacks that count 0 are left out; an unknown sample type has none.
    ///
    /// - Parameter most: the bytes of text that are written at most.
    /// - Throws: when the text would be longer.
    public func folded(sampleType: Int, most: Int = 64 << 20) throws(Problem) -> [UInt8] {
        guard sampleTypes.indices.contains(sampleType) else { return [] }
        var text: [UInt8] = []
        // The text of the way to the node, and how long it was before each of the nodes on it.
        var (path, lengths): ([UInt8], [Int]) = ([], [])
        try tree.walk { node throws(Problem) in
            lengths.append(path.count)
            guard node > 0 else { return }
            if !path.isEmpty { path.append(UInt8(ascii: ";")) }
            path.append(contentsOf: tree.names[Int(tree.nameOf[node])].utf8.lazy.map { $0 == UInt8(ascii: ";") ? UInt8(ascii: ",") : $0 })
            let value = tree.value(node, sampleType)
            guard value != 0 else { return }
            text.append(contentsOf: path)
            text.append(contentsOf: " \(value)\n".utf8)
            guard text.count <= most else { throw Problem("the stacks have more than \(most) bytes as text") }
        } leave: { _ throws(Problem) in
            path.removeLast(path.count - (lengths.popLast() ?? 0))
        }
        return text
    }
}
