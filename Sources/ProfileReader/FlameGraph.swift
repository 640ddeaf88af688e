internal import ConfigJSON

extension ReadProfile {
    /// The most places of functions that a flame graph has.
    public static let flameGraphNodes = 20_000

    /// The stacks of a sample type as JSON for a page that draws them; an unknown sample type gives the default one.
    ///
    ///     {"type":"cpu", "unit":"nanoseconds", "total":70, "truncated":false, "names":["all","main"], "nodes":[0,0,70, 1,1,70]}
    ///
    /// `nodes` has three numbers for each place: its depth, its name as an index of `names`, and what it counts together with
    /// everything called from it. A place comes before what it calls, largest first; the first one stands for everything. Negative
    /// values count as 0. When there are more than `most` places, the smallest of each caller become one with the name `(other)`,
    /// so that all sums stay exact; then there are at most twice as many.
    public func flameGraph(sampleType: Int, most: Int = flameGraphNodes) -> [UInt8] {
        let type = sampleTypes.indices.contains(sampleType) ? sampleType : defaultSampleType
        let totals = tree.totals(type, isClamped: true)
        let (kept, isTruncated) = largest(totals, max(1, most))
        var json = Writer(tree)
        let (starts, list) = tree.childLists()
        // The places to write with their depths, the next one last. A negative place is what is left out of a caller.
        var waiting = [(node: 0, depth: 0, total: totals[0])]
        while let (node, depth, total) = waiting.popLast() {
            json.add(node, depth, total)
            guard node >= 0 else { continue }
            let children = list[starts[node]..<starts[node + 1]].map(Int.init).filter { totals[$0] > 0 }
            let left = children.lazy.filter { !kept[$0] }.reduce(Int64(0)) { sum($0, totals[$1]) }
            if left > 0 { waiting.append((-1, depth + 1, left)) }
            let shown = children.filter { kept[$0] }.sorted { (totals[$0], $1) < (totals[$1], $0) }
            waiting += shown.map { ($0, depth + 1, totals[$0]) }
        }
        return json.text(sampleTypes[type], total: totals[0], isTruncated)
    }

    /// Which nodes are among the largest: never a node without its parent.
    private func largest(_ totals: [Int64], _ most: Int) -> (kept: [Bool], isTruncated: Bool) {
        let drawn = (0..<tree.count).filter { totals[$0] > 0 }
        guard drawn.count > most else { return ([Bool](repeating: true, count: tree.count), false) }
        var kept = [Bool](repeating: false, count: tree.count)
        // A parent counts as much as its children or more, and has a lower number.
        for node in drawn.sorted(by: { (totals[$1], $0) < (totals[$0], $1) }).prefix(most) { kept[node] = true }
        return (kept, true)
    }

    /// Collects places and the names that they use.
    private struct Writer {
        private let tree: StackTree
        private var names: [String] = []
        private var nodes: [String] = []
        private var used: [Int32: Int] = [:]

        init(_ tree: StackTree) { self.tree = tree }

        mutating func add(_ node: Int, _ depth: Int, _ total: Int64) {
            nodes.append("\(depth),\(name(of: node)),\(total)")
        }

        private mutating func name(of node: Int) -> Int {
            let name = node > 0 ? tree.nameOf[node] : Int32(node - 2)
            if let known = used[name] { return known }
            used[name] = names.count
            names.append(node == 0 ? "all" : node < 0 ? "(other)" : tree.names[Int(name)])
            return names.count - 1
        }

        func text(_ type: SampleType, total: Int64, _ isTruncated: Bool) -> [UInt8] {
            let quoted = names.map(JSONValue.quoted).joined(separator: ",")
            return Array(
                """
                {"type":\(JSONValue.quoted(type.name)),"unit":\(JSONValue.quoted(type.unit)),"total":\(total),\
                "truncated":\(isTruncated),"names":[\(quoted)],"nodes":[\(nodes.joined(separator: ","))]}
                """.utf8)
        }
    }
}
