internal import ConfigJSON

/// The stacks of a profile as a tree from the roots to the leaves; node 0 stands above the roots and has no name.
///
/// A node has a higher number than its parent.
struct StackTree: Sendable {
    /// The distinct names of functions, without unprintable characters.
    private(set) var names: [String] = []
    /// The parent of each node; the first node's is itself.
    private(set) var parents: [Int32] = [0]
    /// The name of each node, as an index of `names`; the first node's says nothing.
    private(set) var nameOf: [Int32] = [0]
    /// The values of the stacks that end at each node, one a sample type, node after node.
    private(set) var values: [Int64]
    /// For each sample type the sum of all values without their signs.
    private(set) var magnitudes: [Int64]

    private var ids: [String: Int32] = [:]
    /// The child of a node with a name: the node is the key's high half.
    private var children: [UInt64: Int32] = [:]
    private var frames = 0
    private let limits: ReadProfile.Limits

    typealias Problem = ReadProfile.Problem

    init(sampleTypes: Int, _ limits: ReadProfile.Limits) {
        values = [Int64](repeating: 0, count: sampleTypes)
        magnitudes = values
        self.limits = limits
    }

    var count: Int { parents.count }
    private var sampleTypes: Int { magnitudes.count }

    func value(_ node: Int, _ sampleType: Int) -> Int64 { values[node * sampleTypes + sampleType] }

    // MARK: Building

    /// The index of a name, which is made printable and cut first.
    mutating func intern(_ bytes: Span<UInt8>) throws(Problem) -> Int32 { try intern(Self.text(bytes, limits.nameBytes)) }

    /// The index of a name that is printable.
    mutating func intern(_ name: String) throws(Problem) -> Int32 {
        if let known = ids[name] { return known }
        guard names.count < limits.names else { throw Problem("the profile names more than \(limits.names) functions") }
        let id = Int32(clamping: names.count)
        ids[name] = id
        names.append(name)
        return id
    }

    /// A text of a profile with its unprintable characters replaced by spaces, cut to about `most` bytes; an empty one is `<unknown>`.
    static func text(_ bytes: Span<UInt8>, _ most: Int) -> String {
        guard bytes.count > 0 else { return "<unknown>" }
        let kept = bytes.extracting(0..<min(bytes.count, most))
        var isPlain = true
        for index in kept.indices where !(0x20..<0x7F ~= kept[index]) { isPlain = false }
        let text = unsafe kept.withUnsafeBytes { unsafe String(decoding: $0, as: UTF8.self) }
        // A cut may have left a part of a character, which is shown as one that is damaged.
        return (isPlain ? text : text.printable) + (kept.count < bytes.count ? "…" : "")
    }

    /// Counts the frames of one more stack.
    mutating func count(frames depth: Int, _ place: () -> String) throws(Problem) {
        guard depth <= limits.depth else { throw Problem("\(place()) has \(depth) frames, and more than \(limits.depth) are not read") }
        frames += depth
        guard frames <= limits.frames else { throw Problem("the stacks have more than \(limits.frames) frames together") }
    }

    /// The child of a node with this name, which is made if there is none.
    mutating func child(of node: Int, _ name: Int32) throws(Problem) -> Int {
        let key = UInt64(node) << 32 | UInt64(UInt32(bitPattern: name))
        if let known = children[key] { return Int(known) }
        guard count <= limits.nodes else { throw Problem("the stacks differ in more than \(limits.nodes) places") }
        guard values.count <= limits.values else {
            throw Problem("the stacks differ in too many places for \(sampleTypes) sample types: more than \(limits.values) values")
        }
        let made = count
        children[key] = Int32(clamping: made)
        parents.append(Int32(clamping: node))
        nameOf.append(name)
        values.append(contentsOf: repeatElement(0, count: sampleTypes))
        return made
    }

    /// Adds to the value of the stack that ends at a node.
    mutating func add(_ value: Int64, to node: Int, _ sampleType: Int) {
        let place = node * sampleTypes + sampleType
        values[place] = sum(values[place], value)
        magnitudes[sampleType] = sum(magnitudes[sampleType], Int64(clamping: value.magnitude))
    }

    /// Frees what only building needs.
    mutating func finish() { (ids, children) = ([:], [:]) }

    // MARK: Walking

    /// What each node and everything below it counts; with `isClamped`, negative values are taken as 0.
    func totals(_ sampleType: Int, isClamped: Bool) -> [Int64] {
        var totals = [Int64](repeating: 0, count: count)
        for node in (0..<count).reversed() {
            let own = value(node, sampleType)
            totals[node] = sum(totals[node], isClamped ? max(0, own) : own)
            let parent = Int(parents[node])
            if node > 0 { totals[parent] = sum(totals[parent], totals[node]) }
        }
        return totals
    }

    /// The children of all nodes, in one list, and where each node's begin in it; one more says where the last ones end.
    func childLists() -> (starts: [Int], list: [Int32]) {
        var starts = [Int](repeating: 0, count: count + 1)
        for node in 1..<max(1, count) { starts[Int(parents[node]) + 1] += 1 }
        for node in 0..<count { starts[node + 1] += starts[node] }
        var next = starts
        var list = [Int32](repeating: 0, count: max(0, count - 1))
        for node in 1..<max(1, count) {
            let parent = Int(parents[node])
            list[next[parent]] = Int32(clamping: node)
            next[parent] += 1
        }
        return (starts, list)
    }

    /// Goes through all nodes, a node before its children; `leave` is called after them.
    func walk<E: Error>(enter: (Int) throws(E) -> Void, leave: (Int) throws(E) -> Void) throws(E) {
        let (starts, list) = childLists()
        var next = starts
        var path = [0]
        try enter(0)
        while let node = path.last {
            if next[node] < starts[node + 1] {
                let child = Int(list[next[node]])
                next[node] += 1
                path.append(child)
                try enter(child)
            } else {
                try leave(node)
                path.removeLast()
            }
        }
    }
}
