/// Reads pprof's `profile.proto`.
///
/// Its tables may come after the samples that name their entries, so the message is gone through twice.
struct PprofReader {
    typealias Problem = ReadProfile.Problem

    /// A location: the names of its functions from the outermost to the innermost, as a range of `lineNames`.
    private struct Location {
        var mapping: UInt64
        var lines: Range<Int>
        /// Whether its names are already in `lineNames` instead of the functions' ids.
        var isNamed = false
    }

    private let limits: ReadProfile.Limits
    private var types: [(name: UInt64, unit: UInt64)] = []
    private var defaultType: UInt64 = 0
    private var strings: [Range<Int>] = []
    /// The names of functions and of mappings, as indexes of `strings`.
    private var functions = PprofTable<UInt64>()
    private var mappings = PprofTable<UInt64>()
    private var locations = PprofTable<Location>()
    /// The functions of all locations' lines, innermost first; 0 is none.
    private var lineFunctions: [UInt64] = []
    private var nameOfLine: [Int32] = []
    /// The name of each text that names a function, or -1 before it is asked for.
    private var nameOfString: [Int32] = []

    private init(_ limits: ReadProfile.Limits) { self.limits = limits }

    static func read(_ bytes: Span<UInt8>, _ limits: ReadProfile.Limits) throws(Problem) -> ReadProfile {
        guard bytes.count > 0 else { throw Problem("the body is empty") }
        var reader = PprofReader(limits)
        try reader.readTables(bytes)
        guard !reader.types.isEmpty else { throw Problem("the profile has no sample types: is it a pprof?") }
        var sampleTypes: [ReadProfile.SampleType] = []
        for type in reader.types {
            let name = try reader.text(bytes, type.name, "a sample type's name")
            sampleTypes.append(.init(name: name, unit: try reader.text(bytes, type.unit, "a sample type's unit")))
        }
        var tree = StackTree(sampleTypes: sampleTypes.count, limits)
        try reader.readSamples(bytes, into: &tree)
        tree.finish()
        let wanted = reader.defaultType == 0 ? nil : try reader.text(bytes, reader.defaultType, "the default sample type")
        return ReadProfile(tree, sampleTypes, defaultType: sampleTypes.firstIndex { $0.name == wanted })
    }

    // MARK: Tables

    private mutating func readTables(_ bytes: Span<UInt8>) throws(Problem) {
        var message = ProtobufFields(0..<bytes.count, "the profile")
        while let field = try message.next(bytes) {
            switch field {
            case (1, .bytes(let range)): try addType(bytes, range)
            case (3, .bytes(let range)):
                let (id, name) = try identified(bytes, range, "a mapping", name: 5)
                try mappings.add(id, name, "mapping", limits.entries)
            case (4, .bytes(let range)): try addLocation(bytes, range)
            case (5, .bytes(let range)):
                let (id, name) = try identified(bytes, range, "a function", name: 2)
                try functions.add(id, name, "function", limits.entries)
            case (6, .bytes(let range)):
                guard strings.count < limits.entries else { throw Problem("the profile has more than \(limits.entries) texts") }
                strings.append(range)
            case (14, .number(let index)): defaultType = index
            default: break
            }
        }
        nameOfString = [Int32](repeating: -1, count: strings.count)
        nameOfLine = [Int32](repeating: -1, count: lineFunctions.count)
    }

    private mutating func addType(_ bytes: Span<UInt8>, _ range: Range<Int>) throws(Problem) {
        guard types.count < limits.sampleTypes else { throw Problem("the profile has more than \(limits.sampleTypes) sample types") }
        var (name, unit): (UInt64, UInt64) = (0, 0)
        var message = ProtobufFields(range, "a sample type")
        while let field = try message.next(bytes) {
            switch field {
            case (1, .number(let index)): name = index
            case (2, .number(let index)): unit = index
            default: break
            }
        }
        types.append((name, unit))
    }

    /// Reads a message for its id, which is field 1, and one other number.
    private func identified(
        _ bytes: Span<UInt8>, _ range: Range<Int>, _ what: StaticString, name: UInt64
    ) throws(Problem) -> (UInt64, UInt64) {
        var result: (id: UInt64, name: UInt64) = (0, 0)
        var message = ProtobufFields(range, what)
        while let (number, value) = try message.next(bytes) {
            guard case .number(let index) = value else { continue }
            if number == 1 { result.id = index } else if number == name { result.name = index }
        }
        return result
    }

    private mutating func addLocation(_ bytes: Span<UInt8>, _ range: Range<Int>) throws(Problem) {
        var (id, mapping): (UInt64, UInt64) = (0, 0)
        let start = lineFunctions.count
        var message = ProtobufFields(range, "a location")
        while let field = try message.next(bytes) {
            switch field {
            case (1, .number(let value)): id = value
            case (2, .number(let value)): mapping = value
            case (4, .bytes(let line)):
                let (function, _) = try identified(bytes, line, "a line of a location", name: 2)
                lineFunctions.append(function)
            default: break
            }
        }
        if lineFunctions.count == start { lineFunctions.append(0) }
        guard lineFunctions.count <= limits.entries else { throw Problem("the locations have more than \(limits.entries) lines") }
        try locations.add(id, Location(mapping: mapping, lines: start..<lineFunctions.count), "location", limits.entries)
    }

    private func text(_ bytes: Span<UInt8>, _ index: UInt64, _ what: String) throws(Problem) -> String {
        let range = try string(index, what)
        return range.isEmpty ? "" : StackTree.text(bytes.extracting(range), limits.nameBytes)
    }

    /// Where a text lies; the first one is empty by definition.
    private func string(_ index: UInt64, _ what: String) throws(Problem) -> Range<Int> {
        guard index > 0 else { return 0..<0 }
        guard index < UInt64(strings.count) else { throw Problem("\(what) is text \(index), and the profile has \(strings.count) texts") }
        return strings[Int(index)]
    }

    // MARK: Names

    /// Finds the names of a location's lines.
    private mutating func name(_ place: Int, _ bytes: Span<UInt8>, _ tree: inout StackTree) throws(Problem) {
        let location = locations.entries[place]
        for line in location.lines {
            let id = lineFunctions[line]
            var index: UInt64 = 0
            if id != 0 {
                guard let function = functions[id] else {
                    throw Problem("a location names function \(id), which the profile does not have")
                }
                index = functions.entries[function]
            }
            let range = try string(index, "the name of function \(id)")
            if range.isEmpty {
                nameOfLine[line] = try tree.intern(try fileName(bytes, location.mapping))
            } else if nameOfString[Int(index)] >= 0 {
                nameOfLine[line] = nameOfString[Int(index)]
            } else {
                let name = try tree.intern(bytes.extracting(range))
                (nameOfLine[line], nameOfString[Int(index)]) = (name, name)
            }
        }
        locations.entries[place].isNamed = true
    }

    /// What stands for a function without a name, as in pprof: the last part of its file's path, in brackets.
    private func fileName(_ bytes: Span<UInt8>, _ mapping: UInt64) throws(Problem) -> String {
        guard mapping != 0 else { return "<unknown>" }
        guard let place = mappings[mapping] else { throw Problem("a location names mapping \(mapping), which the profile does not have") }
        let path = try text(bytes, mappings.entries[place], "the file name of mapping \(mapping)")
        return path.isEmpty ? "<unknown>" : "[\(path.split(separator: "/").last ?? "/")]"
    }

    // MARK: Samples

    private mutating func readSamples(_ bytes: Span<UInt8>, into tree: inout StackTree) throws(Problem) {
        var message = ProtobufFields(0..<bytes.count, "the profile")
        var number = 0
        var (stack, values): ([Int], [Int64]) = ([], [])
        while let field = try message.next(bytes) {
            guard case (2, .bytes(let range)) = field else { continue }
            number += 1
            guard number <= limits.samples else { throw Problem("the profile has more than \(limits.samples) samples") }
            stack.removeAll(keepingCapacity: true)
            values.removeAll(keepingCapacity: true)
            try readSample(bytes, range, number, &stack, &values)
            guard values.count == types.count else {
                throw Problem("sample \(number) has \(values.count) values, and the profile has \(types.count) sample types")
            }
            // pprof does not count such a sample either.
            guard values.contains(where: { $0 != 0 }) else { continue }
            var depth = 0
            for place in stack { depth += locations.entries[place].lines.count }
            try tree.count(frames: depth) { "sample \(number)" }
            var node = 0
            for place in stack.reversed() {
                if !locations.entries[place].isNamed { try name(place, bytes, &tree) }
                for line in locations.entries[place].lines.reversed() { node = try tree.child(of: node, nameOfLine[line]) }
            }
            for (type, value) in values.enumerated() where value != 0 { tree.add(value, to: node, type) }
        }
    }

    /// Reads a sample's locations, innermost first, and its values; both may be packed or not.
    private func readSample(
        _ bytes: Span<UInt8>, _ range: Range<Int>, _ number: Int, _ stack: inout [Int], _ values: inout [Int64]
    ) throws(Problem) {
        var message = ProtobufFields(range, "a sample")
        while let field = try message.next(bytes) {
            switch field {
            case (1, .number(let id)): stack.append(try place(of: id, number, stack.count))
            case (2, .number(let value)): values.append(Int64(bitPattern: value))
            case (1, .bytes(let packed)):
                var list = ProtobufFields(packed, "a sample's list of locations")
                while let id = try list.nextNumber(bytes) { stack.append(try place(of: id, number, stack.count)) }
            case (2, .bytes(let packed)):
                var list = ProtobufFields(packed, "a sample's list of values")
                while let value = try list.nextNumber(bytes) { values.append(Int64(bitPattern: value)) }
            default: break
            }
        }
    }

    private func place(of id: UInt64, _ number: Int, _ depth: Int) throws(Problem) -> Int {
        guard depth < limits.depth else { throw Problem("sample \(number) has more than \(limits.depth) locations") }
        guard let place = locations[id] else { throw Problem("sample \(number) names location \(id), which the profile does not have") }
        return place
    }
}
