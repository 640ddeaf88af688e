import PushWire
import Testing

@testable import ProfileReader

/// Writes a pprof; the texts that it names are added to its table.
struct PprofWriter {
    private var body: [UInt8] = []
    private var texts = [""]

    mutating func text(_ text: String) -> UInt64 {
        if let known = texts.firstIndex(of: text) { return UInt64(known) }
        texts.append(text)
        return UInt64(texts.count - 1)
    }

    private static func number(_ field: UInt64, _ value: UInt64) -> [UInt8] { Wire.tag(field, 0) + Wire.varint(value) }

    mutating func type(_ name: String, _ unit: String) {
        let (name, unit) = (text(name), text(unit))
        body += Wire.bytes(1, Self.number(1, name) + Self.number(2, unit))
    }

    /// A sample, its locations innermost first.
    mutating func sample(_ stack: [UInt64], _ values: [Int64]) {
        let packed = values.flatMap { Wire.varint(UInt64(bitPattern: $0)) }
        body += Wire.bytes(2, Wire.bytes(1, stack.flatMap { Wire.varint($0) }) + Wire.bytes(2, packed))
    }

    /// A location, its functions innermost first.
    mutating func location(_ id: UInt64, _ functions: [UInt64], mapping: UInt64 = 0) {
        let lines = functions.flatMap { Wire.bytes(4, Self.number(1, $0) + Self.number(2, 12)) }
        body += Wire.bytes(4, Self.number(1, id) + Self.number(2, mapping) + lines)
    }

    mutating func function(_ id: UInt64, _ name: String) { function(id, nameIndex: text(name)) }
    mutating func function(_ id: UInt64, nameIndex: UInt64) { body += Wire.bytes(5, Self.number(1, id) + Self.number(2, nameIndex)) }

    mutating func mapping(_ id: UInt64, _ file: String) {
        let file = text(file)
        body += Wire.bytes(3, Self.number(1, id) + Self.number(5, file))
    }

    mutating func defaultType(_ name: String) { body += Self.number(14, text(name)) }

    var bytes: [UInt8] { body + texts.flatMap { Wire.text(6, $0) } }

    /// A profile of cpu with the functions main, work and leaf at locations 1, 2 and 3.
    static func make(_ samples: ([UInt64], Int64)..., change: (inout PprofWriter) -> Void = { _ in }) -> [UInt8] {
        var writer = PprofWriter()
        writer.type("cpu", "nanoseconds")
        for (stack, value) in samples { writer.sample(stack, [value]) }
        for (id, name) in [(1, "main"), (2, "work"), (3, "leaf")] as [(UInt64, String)] {
            writer.location(id, [id])
            writer.function(id, name)
        }
        change(&writer)
        return writer.bytes
    }
}

@Suite("Reading pprof")
struct PprofReaderTests {
    private static func folded(_ bytes: [UInt8], _ type: Int = 0) throws -> [String] {
        let profile = try ReadProfile(reading: bytes, format: .pprof)
        return String(decoding: try profile.folded(sampleType: type), as: UTF8.self).split(separator: "\n").map(String.init)
    }

    private static func problem(_ bytes: [UInt8], _ limits: ReadProfile.Limits = .standard) -> String? {
        do throws(ReadProfile.Problem) {
            _ = try ReadProfile(reading: bytes, format: .pprof, limits: limits)
            return nil
        } catch { return error.description }
    }

    @Test("Equal stacks are one, and one in another order is another")
    func stacks() throws {
        let bytes = PprofWriter.make(([2, 1], 5), ([3, 2, 1], 7), ([2, 1], 6), ([1, 2], 1))
        #expect(try Self.folded(bytes) == ["main;work 11", "main;work;leaf 7", "work;main 1"])
        #expect(try Self.folded(Gzip.deflate(bytes) ?? []) == Self.folded(bytes))
    }

    @Test("A function counts once for a stack in which it occurs several times, and inlined functions are frames")
    func functions() throws {
        let bytes = PprofWriter.make(([2, 2, 1], 10), ([3, 2, 3, 2, 1], 7), ([4, 1], 1)) { $0.location(4, [3, 2]) }
        let profile = try ReadProfile(reading: bytes, format: .pprof)
        let functions = profile.topFunctions(sampleType: 0)
        #expect(functions.map(\.name) == ["work", "leaf", "main"])
        #expect(functions.map(\.own) == [10, 8, 0] && functions.map(\.total) == [18, 8, 18])
        #expect(profile.topFunctions(sampleType: 0, limit: 1).map(\.name) == ["work"])
        #expect(profile.topFunctions(sampleType: 1).isEmpty && profile.topFunctions(sampleType: -1).isEmpty)
        #expect(profile.total(sampleType: 0) == 18 && profile.total(sampleType: 1) == 0)
    }

    @Test("The default is the sample type that the profile names, else the last one that counts anything")
    func sampleTypes() throws {
        var writer = PprofWriter()
        for name in ["alloc", "inuse", "zero"] { writer.type(name, "bytes") }
        writer.sample([], [1, 2, 0])
        let profile = try ReadProfile(reading: writer.bytes, format: .pprof)
        #expect(profile.sampleTypes.map(\.name) == ["alloc", "inuse", "zero"] && profile.defaultSampleType == 1)
        writer.defaultType("alloc")
        #expect(try ReadProfile(reading: writer.bytes, format: .pprof).defaultSampleType == 0)
        writer.defaultType("gone")
        #expect(try ReadProfile(reading: writer.bytes, format: .pprof).defaultSampleType == 1)
    }

    @Test("A function without a name has that of its file, ids may be left out, and no name has unprintable characters")
    func names() throws {
        let bytes = PprofWriter.make(([4, 5, 6], 1)) {
            $0.mapping(1, "/usr/lib/libc.so.6")
            $0.location(4, [], mapping: 1)
            $0.location(5, [], mapping: 0)
            $0.location(6, [9])
            $0.function(9, "a\u{1b}[2J\u{202e};b")
        }
        #expect(try Self.folded(bytes) == ["a [2J ,b;<unknown>;[libc.so.6] 1"])
        var writer = PprofWriter()
        writer.type("cpu", "nanoseconds")
        writer.sample([2, 1], [3])
        for (number, name) in ["main", "work"].enumerated() {
            writer.location(0, [UInt64(number) + 1])
            writer.function(0, name)
        }
        #expect(try Self.folded(writer.bytes) == ["main;work 3"])
    }

    @Test("Sums stop at the largest number, and negative values count as 0 in a graph")
    func extremes() throws {
        let profile = try ReadProfile(
            reading: PprofWriter.make(([2, 1], .max), ([2, 1], .max), ([3, 1], .min), ([1], -5)), format: .pprof)
        #expect(profile.total(sampleType: 0) == .max)
        let work = try #require(profile.topFunctions(sampleType: 0).first { $0.name == "work" })
        #expect(work.own == .max && work.total == .max)
        let graph = String(decoding: profile.flameGraph(sampleType: 0), as: UTF8.self)
        #expect(graph.hasSuffix("\"nodes\":[0,0,\(Int64.max),1,1,\(Int64.max),2,2,\(Int64.max)]}"))
    }

    @Test("A problem names the entry that is wrong")
    func problems() {
        let cases: [(String, [UInt8])] = [
            ("the body is empty", []),
            ("the profile has no sample types: is it a pprof?", Wire.text(6, "")),
            ("sample 2 names location 9, which the profile does not have", PprofWriter.make(([1], 1), ([9], 1))),
            (
                "a location names function 8, which the profile does not have",
                PprofWriter.make(([4], 1)) { $0.location(4, [8]) }
            ),
            (
                "a location names mapping 7, which the profile does not have",
                PprofWriter.make(([4], 1)) { $0.location(4, [], mapping: 7) }
            ),
            (
                "the name of function 8 is text 99, and the profile has 6 texts",
                PprofWriter.make(([4], 1)) {
                    $0.location(4, [8])
                    $0.function(8, nameIndex: 99)
                }
            ),
            ("sample 1 has 2 values, and the profile has 1 sample types", PprofWriter.make { $0.sample([1], [1, 2]) }),
            ("two locations have the id 2", PprofWriter.make { $0.location(2, []) }),
            ("the profile ends inside a number, at byte 1", [0x80]),
            ("the body begins like gzip, but is not valid gzip", [0x1F, 0x8B, 8]),
            ("the profile has a field of unknown wire type 3 at byte 0", [0x33]),
            (
                "the profile has a field at byte 0 that is 5 bytes long, which is longer than what is left of it", [0x32, 5, 0]
            ),
            ("the profile has a field with number 0 at byte 0", [0, 0]),
        ]
        for (message, bytes) in cases { #expect(Self.problem(bytes) == message) }
    }

    @Test("Each limit holds: what is at it is read, and one more is a problem")
    func limits() throws {
        let bytes = PprofWriter.make(([3, 2, 1], 5), ([2, 1], 7))
        func check(_ limit: WritableKeyPath<ReadProfile.Limits, Int>, _ count: Int, _ message: String) {
            for extra in [-1, 0, 1] {
                var limits = ReadProfile.Limits.standard
                limits[keyPath: limit] = count + extra
                let problem = Self.problem(bytes, limits)
                #expect(extra < 0 ? problem == message : problem == nil)
            }
        }
        check(\.bytes, bytes.count, "the body has \(bytes.count) bytes, and more than \(bytes.count - 1) are not read")
        check(\.samples, 2, "the profile has more than 1 samples")
        check(\.entries, 6, "the profile has more than 5 texts")
        check(\.sampleTypes, 1, "the profile has more than 0 sample types")
        check(\.depth, 3, "sample 1 has more than 2 locations")
        check(\.frames, 5, "the stacks have more than 4 frames together")
        check(\.nodes, 3, "the stacks differ in more than 2 places")
        check(\.values, 3, "the stacks differ in too many places for 1 sample types: more than 2 values")
        check(\.names, 3, "the profile names more than 2 functions")
    }

    @Test("A body that grows beyond its limit is refused, inlined frames count, and a long name is cut")
    func moreLimits() throws {
        let bytes = PprofWriter.make(([1, 2], 5)) { $0.function(9, String(repeating: "x", count: 5000)) }
        var limits = ReadProfile.Limits.standard
        limits.bytes = bytes.count
        let packed = try #require(Gzip.deflate(bytes))
        #expect(Self.problem(packed, limits) == nil)
        limits.bytes -= 1
        #expect(Self.problem(packed, limits) == "the body has more than \(bytes.count - 1) bytes when it is decompressed")

        limits = .standard
        let inlined = PprofWriter.make(([4], 1)) { $0.location(4, [1, 2, 3]) }
        limits.depth = 3
        #expect(Self.problem(inlined, limits) == nil)
        limits.depth = 2
        #expect(Self.problem(inlined, limits) == "sample 1 has 3 frames, and more than 2 are not read")

        for (count, shown) in [(3, "xxx"), (4, "xxxx"), (5, "xxxx…")] {
            limits = .standard
            limits.nameBytes = 4
            let long = PprofWriter.make(([4], 1)) {
                $0.location(4, [9])
                $0.function(9, String(repeating: "x", count: count))
            }
            #expect(try ReadProfile(reading: long, format: .pprof, limits: limits).topFunctions(sampleType: 0).map(\.name) == [shown])
        }
    }
}
