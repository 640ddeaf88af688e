/// Reads speedscope's file format: https://www.speedscope.app/file-format-schema.json
///
/// The profiles of a file, such as one for each thread, are added up; each unit is a sample type. Times become nanoseconds.
struct SpeedscopeReader {
    typealias Problem = ReadProfile.Problem

    /// Where the parts of one profile lie.
    private struct Part {
        var isEvented = false
        var unit = ReadProfile.SampleType(name: "samples", unit: "count")
        var scale = 1.0
        var samples: Range<Int>?
        var weights: Range<Int>?
        var events: Range<Int>?
    }

    private let limits: ReadProfile.Limits
    /// The name of each frame, once it is known.
    private var frames: [Int32] = []
    private var samples = 0

    static func read(_ bytes: Span<UInt8>, _ limits: ReadProfile.Limits) throws(Problem) -> ReadProfile {
        var reader = SpeedscopeReader(limits: limits)
        let (shared, profiles) = try reader.outline(bytes)
        var parts: [Part] = []
        var scanner = JSONScanner(profiles)
        var isMore = try scanner.open("[", "profiles", bytes)
        while isMore {
            guard parts.count < limits.entries else { throw Problem("the file has more than \(limits.entries) profiles") }
            parts.append(try reader.part(bytes, &scanner, parts.count))
            isMore = try scanner.more("[", bytes)
        }
        guard !parts.isEmpty else { throw Problem("the file has no profile") }
        var types: [ReadProfile.SampleType] = []
        for part in parts where !types.contains(part.unit) { types.append(part.unit) }
        var tree = StackTree(sampleTypes: types.count, limits)
        try reader.readFrames(bytes, shared, &tree)
        for (number, part) in parts.enumerated() {
            let type = types.firstIndex(of: part.unit) ?? 0
            if part.isEvented {
                try reader.readEvents(bytes, part, number, type, &tree)
            } else {
                try reader.readSamples(bytes, part, number, type, &tree)
            }
        }
        tree.finish()
        return ReadProfile(tree, types, defaultType: 0)
    }

    // MARK: Outline

    /// Finds the list of frames and the list of profiles.
    private func outline(_ bytes: Span<UInt8>) throws(Problem) -> (shared: Range<Int>, profiles: Range<Int>) {
        var (shared, profiles): (Range<Int>?, Range<Int>?)
        var scanner = JSONScanner(0..<bytes.count)
        var isMore = try scanner.open("{", "a speedscope file", bytes)
        while isMore {
            switch try scanner.name(bytes) {
            case "shared": shared = try scanner.skip(bytes)
            case "profiles": profiles = try scanner.skip(bytes)
            default: _ = try scanner.skip(bytes)
            }
            isMore = try scanner.more("{", bytes)
        }
        try scanner.finish(bytes)
        guard let shared, let profiles else { throw Problem("a speedscope file has the members shared and profiles; this one does not") }
        return (shared, profiles)
    }

    private func part(_ bytes: Span<UInt8>, _ scanner: inout JSONScanner, _ number: Int) throws(Problem) -> Part {
        var part = Part()
        var isMore = try scanner.open("{", "profiles[\(number)]", bytes)
        while isMore {
            switch try scanner.name(bytes) {
            case "type":
                let type = StackTree.text(bytes.extracting(try scanner.string(bytes)), 64)
                guard ["sampled", "evented"].contains(type) else {
                    throw Problem("profiles[\(number)].type is \(type), and must be sampled or evented")
                }
                part.isEvented = type == "evented"
            case "unit": try setUnit(&part, StackTree.text(bytes.extracting(try scanner.string(bytes)), 64), number)
            case "samples": part.samples = try scanner.skip(bytes)
            case "weights": part.weights = try scanner.skip(bytes)
            case "events": part.events = try scanner.skip(bytes)
            default: _ = try scanner.skip(bytes)
            }
            isMore = try scanner.more("{", bytes)
        }
        return part
    }

    private func setUnit(_ part: inout Part, _ unit: String, _ number: Int) throws(Problem) {
        switch unit {
        case "none": return
        case "bytes": part.unit = .init(name: "memory", unit: "bytes")
        case "nanoseconds", "microseconds", "milliseconds", "seconds":
            part.unit = .init(name: "time", unit: "nanoseconds")
            part.scale = ["microseconds": 1e3, "milliseconds": 1e6, "seconds": 1e9][unit] ?? 1
        default: throw Problem("profiles[\(number)].unit is \(unit), which speedscope does not have")
        }
    }

    // MARK: Content

    /// Reads the names of the frames in `shared`.
    private mutating func readFrames(_ bytes: Span<UInt8>, _ shared: Range<Int>, _ tree: inout StackTree) throws(Problem) {
        var scanner = JSONScanner(shared)
        var isMore = try scanner.open("{", "shared", bytes)
        while isMore {
            if try scanner.name(bytes) == "frames" {
                frames = []
                var isMoreFrames = try scanner.open("[", "shared.frames", bytes)
                while isMoreFrames {
                    guard frames.count < limits.entries else { throw Problem("the file has more than \(limits.entries) frames") }
                    frames.append(try frame(bytes, &scanner, &tree))
                    isMoreFrames = try scanner.more("[", bytes)
                }
            } else {
                _ = try scanner.skip(bytes)
            }
            isMore = try scanner.more("{", bytes)
        }
    }

    private func frame(_ bytes: Span<UInt8>, _ scanner: inout JSONScanner, _ tree: inout StackTree) throws(Problem) -> Int32 {
        var name: Range<Int>?
        var isMore = try scanner.open("{", "shared.frames[\(frames.count)]", bytes)
        while isMore {
            if try scanner.name(bytes) == "name" { name = try scanner.string(bytes) } else { _ = try scanner.skip(bytes) }
            isMore = try scanner.more("{", bytes)
        }
        guard let name else { throw Problem("shared.frames[\(frames.count)] has no name") }
        return try tree.intern(JSONScanner.text(name, bytes).span)
    }

    private mutating func countSample() throws(Problem) {
        samples += 1
        guard samples <= limits.samples else { throw Problem("the file has more than \(limits.samples) samples and events") }
    }

    /// Reads the stacks of a sampled profile, outermost frame first, beside their weights.
    private mutating func readSamples(
        _ bytes: Span<UInt8>, _ part: Part, _ number: Int, _ type: Int, _ tree: inout StackTree
    ) throws(Problem) {
        guard let samples = part.samples, let weights = part.weights else {
            throw Problem("profiles[\(number)] is sampled, and has no samples or no weights")
        }
        var (stacks, values) = (JSONScanner(samples), JSONScanner(weights))
        var isMore = try stacks.open("[", "profiles[\(number)].samples", bytes)
        var isMoreValues = try values.open("[", "profiles[\(number)].weights", bytes)
        while isMore && isMoreValues {
            try countSample()
            var (node, depth) = (0, 0)
            var isMoreFrames = try stacks.open("[", "a sample of profiles[\(number)]", bytes)
            while isMoreFrames {
                depth += 1
                guard depth <= limits.depth else { throw Problem("a sample of profiles[\(number)] has more than \(limits.depth) frames") }
                let frame = try stacks.index(below: frames.count, "a frame in profiles[\(number)].samples", bytes)
                node = try tree.child(of: node, frames[frame])
                isMoreFrames = try stacks.more("[", bytes)
            }
            try tree.count(frames: depth) { "a sample of profiles[\(number)]" }
            let weight = try values.number("a weight of profiles[\(number)]", bytes)
            tree.add(Self.whole(weight * part.scale), to: node, type)
            (isMore, isMoreValues) = (try stacks.more("[", bytes), try values.more("[", bytes))
        }
        guard isMore == isMoreValues else { throw Problem("profiles[\(number)] has another number of weights than of samples") }
    }

    /// Reads the events of an evented profile: between two of them, the stack that is open counts the time.
    private mutating func readEvents(
        _ bytes: Span<UInt8>, _ part: Part, _ number: Int, _ type: Int, _ tree: inout StackTree
    ) throws(Problem) {
        guard let events = part.events else { throw Problem("profiles[\(number)] is evented, and has no events") }
        var scanner = JSONScanner(events)
        // The nodes that are open, from the one above the roots on, and the frame of each.
        var (path, open): ([Int], [Int]) = ([0], [-1])
        var last: Int64 = 0
        var isMore = try scanner.open("[", "profiles[\(number)].events", bytes)
        while isMore {
            try countSample()
            let event = try event(bytes, &scanner, part, number)
            if path.count > 1 {
                guard event.at >= last else { throw Problem("the times in profiles[\(number)].events go backwards") }
                tree.add(sum(event.at, last == .min ? .max : -last), to: path[path.count - 1], type)
            }
            last = event.at
            if event.opens {
                guard path.count <= limits.depth else {
                    throw Problem("a stack of profiles[\(number)] has more than \(limits.depth) frames")
                }
                try tree.count(frames: 1) { "" }
                path.append(try tree.child(of: path[path.count - 1], frames[event.frame]))
                open.append(event.frame)
            } else {
                guard path.count > 1, open.last == event.frame else {
                    throw Problem(
                        "an event of profiles[\(number)] closes frame \(event.frame), which is not the innermost one that is open")
                }
                path.removeLast()
                open.removeLast()
            }
            isMore = try scanner.more("[", bytes)
        }
    }

    private func event(
        _ bytes: Span<UInt8>, _ scanner: inout JSONScanner, _ part: Part, _ number: Int
    ) throws(Problem) -> (opens: Bool, frame: Int, at: Int64) {
        var (kind, frame, at): (String?, Int?, Int64?)
        var isMore = try scanner.open("{", "an event of profiles[\(number)]", bytes)
        while isMore {
            switch try scanner.name(bytes) {
            case "type": kind = StackTree.text(bytes.extracting(try scanner.string(bytes)), 16)
            case "frame": frame = try scanner.index(below: frames.count, "a frame in profiles[\(number)].events", bytes)
            case "at": at = Self.whole(try scanner.number("a time in profiles[\(number)].events", bytes) * part.scale)
            default: _ = try scanner.skip(bytes)
            }
            isMore = try scanner.more("{", bytes)
        }
        guard let kind, let frame, let at, ["O", "C"].contains(kind) else {
            throw Problem("an event of profiles[\(number)] needs a type O or C, a frame and a time")
        }
        return (kind == "O", frame, at)
    }

    /// The nearest whole number of 64 bits.
    private static func whole(_ value: Double) -> Int64 {
        Int64(exactly: value.rounded()) ?? (value < 0 ? .min : .max)
    }
}
