import Foundation
import LinuxSystem
import Testing

@testable import Profiles
@testable import Receivers
@testable import SpoolStore
@testable import TestSupport

/// A start always ends and delivers what can be read, even if files have valid check sums and impossible numbers.
@Suite("A spool with forged numbers")
struct ForgedSpoolTests: ~Copyable {
    private let top: TestFolder
    private let disk: SpoolOnDisk
    private static let receivers = ["one", "two"]
    private static let largest = UInt64(UInt32.max)

    init() throws {
        top = try TestFolder()
        disk = SpoolOnDisk(top)
    }

    private static func header(_ segment: UInt64 = 3, receivers: [String] = ForgedSpoolTests.receivers) -> SpoolHeader {
        SpoolHeader(segment: segment, salt: 0x0123_4567_89AB_CDEF, createdAt: MonotonicTime.unixNanoseconds, receivers: receivers)
    }

    /// A record with a sample profile; its head may claim another length than the body has.
    private static func record(
        _ sequence: UInt64 = 41, origin: UInt64 = 0, claims length: Int? = nil, for receivers: [String] = ["two"]
    ) throws -> [UInt8] {
        let profile = try ReceivedProfile.sample(body: 100)
        var body = profile.encodedHead
        for index in 0..<profile.sampleCount { profile.withSample(index) { bytes in body += bytes.withUnsafeBytes { Array($0) } } }
        let head = SpoolRecord(
            salt: header().salt, sequence: sequence, time: MonotonicTime.unixNanoseconds, origin: origin, bodyLength: length ?? body.count,
            bodySum: CRC32C.of(body), receivers: receivers)
        return head.encoded + body
    }

    /// The offset of the first record.
    private static var start: Int { header().encoded(.records).count }

    /// The index entry of a record, with numbers that may be wrong.
    private static func entry(
        _ record: [UInt8], at offset: Int = ForgedSpoolTests.start, length: UInt64? = nil, sequence: UInt64 = 41, receivers: UInt64 = 2,
        isCopy: Bool = false
    ) -> IndexEntry {
        IndexEntry(
            offset: UInt32(offset), length: UInt32(length ?? UInt64(record.count)), sequence: sequence, time: MonotonicTime.unixNanoseconds,
            receivers: receivers, isCopy: isCopy)
    }

    /// Writes the three files of a segment.
    private func write(
        _ records: [[UInt8]], _ entries: [IndexEntry], settled: [SettledEntry] = [], segment number: UInt64 = 3
    ) throws {
        let header = Self.header(number)
        try FileManager.default.createDirectory(atPath: disk.folder, withIntermediateDirectories: true)
        let files: [(SpoolFormat.File, [UInt8])] = [
            (.records, records.flatMap { $0 }), (.index, entries.flatMap { $0.encoded(seed: header.seed) }),
            (.settled, settled.flatMap { $0.encoded(seed: header.seed) }),
        ]
        for (file, content) in files {
            try Data(header.encoded(file) + content).write(to: URL(fileURLWithPath: "\(disk.folder)/\(file.name(of: header.segment))"))
        }
    }

    /// The sequences of the readable records for each receiver after a start.
    private func delivered(to receivers: [String] = ForgedSpoolTests.receivers) throws -> [[UInt64]] {
        try disk.withSpool { spool in
            try receivers.map { name in
                let ends = spool.state.withLock { $0.segments.mapValues { UInt32($0.count) } }
                let reader = SpoolQueue(spool, name, knownAtStart: ends)
                var cursor = SpoolCursor()
                var sequences: [UInt64] = []
                while case let found = try reader.next(10, after: &cursor), !found.isEmpty {
                    for record in found where (try? reader.read(record.position, sequence: record.sequence)) != nil {
                        sequences.append(record.sequence)
                    }
                }
                return sequences
            }
        }
    }

    /// The damage that a check of the spool finds.
    private func damages() throws -> [SpoolDamage] {
        var damages: [SpoolDamage] = []
        var check = try SpoolCheck(disk.dataDirectory)
        check.run { damages.append($0) }
        return damages
    }

    // MARK: The index

    @Test("An entry that is too short for a record is damaged, and its record is found without it", arguments: [0, 1, 55] as [UInt64])
    func shortEntry(length: UInt64) throws {
        let record = try Self.record()
        try write([record], [Self.entry(record, length: length)])
        #expect(try damages().first?.what == "an entry is damaged")
        #expect(try delivered() == [[], [41]])
    }

    @Test("An entry for bytes without a record covers at least one byte")
    func unknownBytes() throws {
        let record = try Self.record()
        var encoded = Self.entry(record, length: 1, sequence: 0).encoded(seed: 5)
        func isRead(_ bytes: [UInt8]) -> Bool {
            var isRead = false
            IndexEntry.decode(bytes, from: 0, seed: 5) { isRead = $0 != nil }
            return isRead
        }
        #expect(isRead(encoded))
        encoded = Self.entry(record, length: 0, sequence: 0).encoded(seed: 5)
        #expect(!isRead(encoded))
    }

    @Test("An entry that does not end below 4 GiB is damaged")
    func longEntry() throws {
        let record = try Self.record()
        let room = Self.largest - UInt64(Self.start)
        for (length, isSound) in [(room - 1, true), (room, true), (room + 1, false), (Self.largest, false)] {
            var found: [Bool] = []
            IndexEntry.decode(Self.entry(record, length: length).encoded(seed: 5), from: 0, seed: 5) { found.append($0 != nil) }
            #expect(found == [isSound], "\(length)")
        }
        // A record that the file does not contain is not delivered, but counts.
        try write([record], [Self.entry(record, length: room)])
        #expect(try delivered() == [[], []])
        try disk.withSpool { #expect($0.backlog(of: "two").profiles == 1) }
    }

    @Test("An entry with a bit for an unnamed receiver is damaged, and the record's own receivers count", arguments: [false, true])
    func unknownReceiver(isCopy: Bool) throws {
        let record = try Self.record(origin: isCopy ? 1 : 0)
        try write([record], [Self.entry(record, receivers: 4, isCopy: isCopy)])
        #expect(try damages().map(\.what) == ["an entry is for a receiver without a name"])
        #expect(try delivered() == [[], [41]])
        #expect(try damages() == [])
    }

    @Test("A record that claims to be copied from its own segment is no copy")
    func ownCopy() throws {
        let record = try Self.record(origin: 3)
        try write([record], [Self.entry(record, isCopy: true)])
        #expect(try delivered() == [[], [41]])
    }

    @Test("A settled file that names receivers in another order than the index is set aside")
    func otherPlaces() throws {
        let record = try Self.record()
        let whole = SettledEntry(kind: .settled, receiver: 1, offset: 0, end: .max)
        for (names, isOurs) in [(["one", "two"], true), (["one"], true), (["one", "two", "three"], true), (["two", "one"], false)] {
            try write([record], [Self.entry(record)])
            let content = Self.header(receivers: names).encoded(.settled) + whole.encoded(seed: Self.header().seed)
            try Data(content).write(to: URL(fileURLWithPath: "\(disk.folder)/\(SpoolFormat.File.settled.name(of: 3))"))
            #expect(try delivered() == [[], isOurs ? [] : [41]], "\(names)")
        }
    }

    @Test("An attempt is kept for a receiver that only the record names, and no file header")
    func moreNames() throws {
        let record = try Self.record(for: ["three"])
        try write([record], [])
        let fixture = try SpoolFixture(SpoolFixture.receiver("one"), SpoolFixture.receiver("three"), in: disk.dataDirectory)
        let opened = try fixture.open(at: 1)
        #expect(opened.map(\.sequence) == [41])
        let place = try #require(opened.first?.entry.position)
        fixture.spool?.attempted(place, "three", SpoolAttempt(count: 9))
        try fixture.restart()
        #expect(try fixture.open(at: 1).map(\.entry.attempts) == [10])
        fixture.close()
    }

    @Test("A record that exists three times is delivered once, and no count becomes negative")
    func thrice() throws {
        for number: UInt64 in 3...5 { try write([try Self.record()], [], segment: number) }
        #expect(try delivered() == [[], [41]])
        try disk.withSpool { spool in
            #expect(spool.state.withLock { $0.segments.values.allSatisfy { $0.live.allSatisfy { $0 >= 0 } } })
        }
    }

    // MARK: Records

    @Test("A record that claims to be longer than offsets reach is skipped, without an endless loop or a crash")
    func hugeRecord() throws {
        try write([try Self.record(claims: Int(UInt32.max))], [])
        #expect(try delivered() == [[], []])
        #expect(try disk.withSpool { spool in Self.receivers.map { spool.backlog(of: $0).profiles } } == [1, 1])
    }

    @Test("Bytes that look like record heads do not hide the record behind them")
    func falseHeads() throws {
        let head = Array(try Self.record().prefix(60))
        let record = try Self.record()
        try write([Array((0..<2000).map { _ in head }.joined()), record], [])
        #expect(try delivered() == [[], [41]])
    }

    @Test("Only 100 of many damaged places are copied to the quarantine")
    func manyDamages() throws {
        var records: [[UInt8]] = []
        for number in 0..<300 { records += [try Self.record(100 + UInt64(number)), [0]] }
        try write(records, [])
        #expect(try delivered()[1] == (0..<300).map { 100 + $0 })
        let copies = try FileManager.default.contentsOfDirectory(atPath: "\(disk.dataDirectory)/quarantine")
        #expect(copies.count == 100)
        try disk.withSpool { #expect($0.backlog(of: "one").profiles == 300) }
    }

    // MARK: Headers

    @Test("A file header names up to 64 receivers, each once and in UTF-8")
    func headNames() throws {
        func isRead(_ names: [String]) -> Bool { (try? SpoolHeader.decode(Self.header(receivers: names).encoded(.index), .index)) != nil }
        let names = (0...64).map { "r\($0)" }
        #expect(isRead([]) && isRead(Array(names[..<63])) && isRead(Array(names[..<64])))
        #expect(!isRead(names))
        #expect(!isRead(["a", "b", "a"]))
        var bytes = Self.header(receivers: ["ab"]).encoded(.index)
        bytes[bytes.count - 1] = 0xFF
        var input = FuzzBytes(bytes: bytes)
        input.sum(64..<bytes.count, at: 52)
        input.sum(0..<60, at: 60)
        #expect(throws: SpoolHeader.Failure.damaged) { _ = try SpoolHeader.decode(input.bytes, .index) }
    }

    // MARK: Sizes

    @Test("A start sets aside a sparse settled file of a terabyte, and rebuilds a sparse index")
    func holes() throws {
        let record = try Self.record()
        try write([record], [Self.entry(record)], settled: [SettledEntry(kind: .settled, receiver: 1, offset: 0, end: .max)])
        for file in [SpoolFormat.File.index, .settled] { try #require(truncate("\(disk.folder)/\(file.name(of: 3))", 1 << 40) == 0) }
        #expect(try delivered() == [[], [41]])
        #expect(try FileStatus(of: "\(disk.folder)/\(SpoolFormat.File.index.name(of: 3))")?.size ?? 0 < 1000)
        #expect(try FileStatus(of: "\(disk.dataDirectory)/quarantine/\(SpoolFormat.File.settled.name(of: 3))")?.size == 1 << 40)
    }

    // MARK: Numbers

    @Test("A segment with any number is delivered, and a profile stored after it survives the next start")
    func numbers() throws {
        let limit = SpoolFormat.largestNumber
        for (index, number) in [limit, limit + 1, UInt64(Int64.max)].enumerated() {
            let sequence = 50 + UInt64(index)
            let record = try Self.record(sequence)
            try write([record], [Self.entry(record, sequence: sequence)], segment: number)
        }
        let profile = try ReceivedProfile.sample(body: 10)
        let place = try #require(try disk.store([profile], for: ["two"]).first)
        #expect(place.segment == limit + 2)
        let fixture = try SpoolFixture(SpoolFixture.receiver("two"), in: disk.dataDirectory)
        #expect(Set(try fixture.deliverAll()) == [50, 51, 52, profile.sequence])
        fixture.close()
        try disk.withSpool { #expect($0.backlog(of: "two").profiles == 0) }
    }

    @Test("Sequences do not continue after one that no clock gives")
    func sequences() throws {
        let before = ReceivedProfile.sequenceToCome
        for sequence in [UInt64(Int64.max), UInt64(Int64.max) + 1, .max - 1, .max] {
            ReceivedProfile.continueSequence(after: sequence)
            let record = try Self.record(sequence)
            try write([record], [Self.entry(record, sequence: sequence)])
            #expect(try delivered() == [[], [sequence]])
        }
        // Other tests take sequences too, and each start reserves a piece of 2^40.
        #expect(ReceivedProfile.sequenceToCome - before < 1 << 60)
    }

    // MARK: Profiles

    /// Whether a profile is decoded after this change to its content, with more bytes behind it.
    private static func isRead(_ change: (inout ProfileContent) -> Void, more: [UInt8] = []) throws -> Bool {
        var bytes = ByteBuffer()
        try bytes.append([1, 2, 3].span.bytes)
        var content = ProfileContent(
            api: .push, receivedAt: 0, path: "/ingest", query: "name=a", format: .pprof,
            samples: [.init(range: 0..<2), .init(id: "x", range: 2..<3)])
        content.headers = [Label(name: "traceparent", value: "00-1")]
        change(&content)
        let profile = ReceivedProfile(content, body: bytes)
        var encoded = ByteBuffer()
        try encoded.append(profile.encodedHead.span.bytes)
        for index in 0..<profile.sampleCount { try profile.withSample(index) { (bytes) throws(SystemError) in try encoded.append(bytes) } }
        try encoded.append(more.span.bytes)
        return ReceivedProfile.decode(encoded, at: 0, sequence: 7) != nil
    }

    @Test("A profile with content that no request can have is damaged")
    func profiles() throws {
        #expect(try Self.isRead { _ in })
        #expect(try Self.isRead { $0.labels = LabelSet(sorted: [Label(name: "a", value: "x\ny"), Label(name: "b", value: "")]) })
        #expect(try Self.isRead { ($0.api, $0.samples) = (.ingest, [.init(range: 0..<3)]) })
        let changes: [(inout ProfileContent) -> Void] = [
            { $0.headers[0].value = "a\r\nX: y" }, { $0.headers[0].name = "a\n" }, { $0.headers[0].value = "\0" }, { $0.query = "a b\r\n" },
            { $0.path = "/\n" }, { $0.tenant = "a\rb" }, { $0.contentType = "a\nb" }, { $0.contentEncoding = "\0" },
            { $0.labels = LabelSet(sorted: [Label(name: "b", value: ""), Label(name: "a", value: "")]) },
            { $0.labels = LabelSet(sorted: [Label(name: "a", value: "1"), Label(name: "a", value: "2")]) },
            { $0.labels = LabelSet(sorted: [Label(name: "a\0", value: "")]) }, { $0.samples[1].id = "\0" }, { $0.api = .ingest },
            { ($0.api, $0.samples) = (.ingest, []) }, { ($0.api, $0.samples) = (.ingest, [.init(id: "x", range: 0..<3)]) },
            { $0.api = unsafeBitCast(UInt32(7), to: type(of: $0.api)) },
        ]
        for (index, change) in changes.enumerated() { #expect(try !Self.isRead(change), "change \(index)") }
        #expect(try !Self.isRead({ _ in }, more: [0]))
    }
}
