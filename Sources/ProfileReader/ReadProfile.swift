internal import ConfigJSON
internal import LinuxSystem
internal import PushWire

/// A profile whose body has been read: its sample types, and how much each stack counts for each of them.
///
/// Stacks that are equal are one, and functions with the same name are one. All sums stop at the largest and the smallest 64-bit
/// number. A value never changes once it is made, so any thread may use it.
public struct ReadProfile: Sendable {
    /// The formats that can be read; JFR is not one of them.
    public enum Format: String, Sendable, CaseIterable {
        /// pprof's protobuf, which may have inlined frames.
        case pprof
        /// A stack a line, its frames divided by semicolons, then a space and a count.
        case folded
        /// A stack a line, without a count; each line counts once.
        case lines
        /// speedscope's JSON, sampled or evented.
        case speedscope
    }

    /// What is counted, such as `cpu` in `nanoseconds`.
    public struct SampleType: Sendable, Equatable {
        /// What the values say: `cpu`, `inuse_space`.
        public var name: String
        /// The unit of the values: `nanoseconds`, `bytes`, `count`.
        public var unit: String

        /// Makes a sample type from its name and its unit.
        public init(name: String, unit: String) { (self.name, self.unit) = (name, unit) }
    }

    /// Why a body cannot be read: a sentence for people, which names the place and the value.
    public struct Problem: Error, Sendable, Equatable, CustomStringConvertible {
        /// The sentence, without a full stop.
        public let description: String

        init(_ description: String) { self.description = description }
    }

    /// What is counted, in the order of the profile; at least one.
    public let sampleTypes: [SampleType]
    /// The index of the sample type to show first: the one that the profile names, else the last one that counts anything; pprof takes
    /// the last one.
    public let defaultSampleType: Int
    let tree: StackTree

    /// Reads a body, which may be compressed with gzip.
    ///
    /// Takes time in proportion to the body and the frames of its stacks, which `limits` bounds.
    public init(reading bytes: Span<UInt8>, format: Format, limits: Limits = .standard) throws(Problem) {
        guard bytes.count >= 2, bytes[0] == 0x1F, bytes[1] == 0x8B else {
            try self.init(plain: bytes, format, limits)
            return
        }
        let inflated: ByteBuffer
        do throws(Gzip.Failure) {
            inflated = try unsafe bytes.withUnsafeBytes { input throws(Gzip.Failure) in
                try Gzip.inflate(unsafe ByteBuffer(borrowing: input, release: {}), limit: limits.bytes)
            }
        } catch {
            switch error {
            case .malformed: throw Problem("the body begins like gzip, but is not valid gzip")
            case .tooLarge, .tooSparse: throw Problem("the body has more than \(limits.bytes) bytes when it is decompressed")
            case .noRoom: throw Problem("there is not enough memory to decompress the body")
            }
        }
        self = try inflated.withBytes { plain throws(Problem) in try ReadProfile(plain: plain, format, limits) }
    }

    /// Reads a body, which may be compressed with gzip.
    public init(reading bytes: [UInt8], format: Format, limits: Limits = .standard) throws(Problem) {
        try self.init(reading: bytes.span, format: format, limits: limits)
    }

    private init(plain bytes: Span<UInt8>, _ format: Format, _ limits: Limits) throws(Problem) {
        guard bytes.count <= limits.bytes else {
            throw Problem("the body has \(bytes.count) bytes, and more than \(limits.bytes) are not read")
        }
        switch format {
        case .pprof: self = try PprofReader.read(bytes, limits)
        case .folded: self = try StackLines.read(bytes, hasCounts: true, limits)
        case .lines: self = try StackLines.read(bytes, hasCounts: false, limits)
        case .speedscope: self = try SpeedscopeReader.read(bytes, limits)
        }
    }

    init(_ tree: StackTree, _ types: [SampleType], defaultType: Int? = nil) {
        (self.tree, sampleTypes) = (tree, types)
        defaultSampleType = defaultType ?? tree.magnitudes.lastIndex { $0 > 0 } ?? types.count - 1
    }

    /// All values of a sample type added up, negative ones as if they were positive, as pprof's total is; 0 for an unknown one.
    public func total(sampleType: Int) -> Int64 {
        guard sampleTypes.indices.contains(sampleType) else { return 0 }
        return tree.magnitudes[sampleType]
    }
}

extension ReadProfile {
    /// How large a profile may be; a larger one is refused with a ``Problem``.
    ///
    /// At the standard limits, reading takes at most some 300 MiB of memory for a body that is made to take most of it. Usual profiles
    /// of 1 MiB take less than 50 MiB.
    public struct Limits: Sendable {
        /// The bytes of the body, once it is decompressed.
        public var bytes = 64 << 20
        /// The samples, the lines of a text, or the events.
        public var samples = 1_000_000
        /// The entries of each table of a pprof: its locations with their lines, functions, mappings and texts; the frames of a speedscope file.
        public var entries = 1_000_000
        /// The sample types.
        public var sampleTypes = 32
        /// The frames of one stack.
        public var depth = 4096
        /// The frames of all stacks together.
        public var frames = 10_000_000
        /// The different places of functions in stacks.
        public var nodes = 500_000
        /// The different places times the sample types.
        public var values = 4_000_000
        /// The different names of functions.
        public var names = 200_000
        /// The bytes of a name; a longer one is cut, and is not a problem.
        public var nameBytes = 2048

        /// Limits that every profile of a usual profiler is within.
        public static let standard = Limits()

        /// Makes the standard limits.
        public init() {}
    }
}

/// A sum that stops at the largest and the smallest number.
func sum(_ a: Int64, _ b: Int64) -> Int64 {
    let (result, overflow) = a.addingReportingOverflow(b)
    return overflow ? (b > 0 ? .max : .min) : result
}
