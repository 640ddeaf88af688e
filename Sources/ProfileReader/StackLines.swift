/// Reads stacks as text, one a line: folded ones with a count after the last space, or lines that count once each.
enum StackLines {
    typealias Problem = ReadProfile.Problem

    static func read(_ bytes: Span<UInt8>, hasCounts: Bool, _ limits: ReadProfile.Limits) throws(Problem) -> ReadProfile {
        var tree = StackTree(sampleTypes: 1, limits)
        var (start, number, stacks) = (0, 0, 0)
        while start < bytes.count {
            number += 1
            var end = start
            while end < bytes.count, bytes[end] != UInt8(ascii: "\n") { end += 1 }
            let next = end + 1
            if end > start, bytes[end - 1] == UInt8(ascii: "\r") { end -= 1 }
            if let (stack, count) = try stack(bytes, start..<end, hasCounts, number) {
                stacks += 1
                guard stacks <= limits.samples else { throw Problem("the text has more than \(limits.samples) stacks") }
                try add(bytes, stack, count, number, to: &tree)
            }
            start = next
        }
        guard stacks > 0 else { throw Problem("the text has no stack") }
        tree.finish()
        return ReadProfile(tree, [.init(name: "samples", unit: "count")])
    }

    /// The stack of a line and its count; nil when there is none, as on an empty line or, in folded text, on one without a space.
    private static func stack(
        _ bytes: Span<UInt8>, _ line: Range<Int>, _ hasCount: Bool, _ number: Int
    ) throws(Problem) -> (Range<Int>, Int64)? {
        guard hasCount else { return line.isEmpty ? nil : (line, 1) }
        guard let space = line.reversed().first(where: { bytes[$0] == UInt8(ascii: " ") }) else { return nil }
        let digits = bytes.extracting((space + 1)..<line.upperBound)
        // The longest number that fits into 64 bits has 20 characters.
        let text = StackTree.text(digits, 24)
        guard let count = Int64(text) else {
            throw Problem("the count on line \(number) is \(text), which is not a whole number of 64 bits")
        }
        return (line.lowerBound..<space, count)
    }

    private static func add(
        _ bytes: Span<UInt8>, _ stack: Range<Int>, _ count: Int64, _ number: Int, to tree: inout StackTree
    ) throws(Problem) {
        var depth = 1
        for index in stack where bytes[index] == UInt8(ascii: ";") { depth += 1 }
        try tree.count(frames: depth) { "the stack on line \(number)" }
        var (node, start) = (0, stack.lowerBound)
        while start <= stack.upperBound {
            var end = start
            while end < stack.upperBound, bytes[end] != UInt8(ascii: ";") { end += 1 }
            node = try tree.child(of: node, tree.intern(bytes.extracting(start..<end)))
            start = end + 1
        }
        tree.add(count, to: node, 0)
    }
}
