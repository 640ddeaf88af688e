import Foundation
import LinuxSystem
import Testing

@testable import Profiles
@testable import SpoolStore
@testable import TestSupport

@Suite("Reading a spool without changing it")
struct SpoolReaderTests: ~Copyable {
    private let folder: TestFolder
    private let disk: SpoolOnDisk
    private static let small = { () -> SpoolConfig in
        var config = SpoolConfig()
        config.segmentBytes = 64 << 10
        return config
    }()

    init() throws {
        folder = try TestFolder()
        disk = SpoolOnDisk(folder)
    }

    /// The damage that a check of the spool finds, while a gateway writes to it or not.
    private func damages(isRunning: Bool = false) throws -> [SpoolDamage] {
        // A process that another test starts holds the lock too until it has closed what it inherited.
        let limit = Date(timeIntervalSinceNow: Project.patience)
        while DataDirectory(disk.dataDirectory).isTaken != isRunning {
            guard Date() < limit else { throw NeverCame(what: isRunning ? "the lock" : "the end of the lock", seen: []) }
            usleep(10_000)
        }
        var found: [SpoolDamage] = []
        var check = try SpoolCheck(disk.dataDirectory)
        check.run { found.append($0) }
        #expect(check.damages == found.count)
        return found
    }

    // MARK: Waiting profiles

    @Test("A missing folder is an empty spool")
    func empty() throws {
        #expect(try QueueSummary.all(disk.dataDirectory).queues == [])
        #expect(try damages() == [])
    }

    @Test("A summary has each receiver's profiles, bytes and oldest profile over several segments")
    func summary() throws {
        let profiles = try (0..<8).map { _ in try ReceivedProfile.sample(body: 20_000) }
        let places = try disk.store(profiles, for: ["a", "b"], Self.small)
        #expect(Set(places.map(\.segment)).count > 2)
        try disk.note(Array(places.prefix(3)), "a")
        let found = try QueueSummary.all(disk.dataDirectory).queues
        #expect(found.map(\.receiver) == ["a", "b"])
        #expect(found.map(\.profiles) == [5, 8])
        #expect(found.map(\.bytes) == [places.dropFirst(3), places[...]].map { $0.reduce(0) { $0 + Int($1.length) } })
        #expect(found.map { $0.oldest?.sequence } == [profiles[3].sequence, profiles[0].sequence])
        #expect(found.map(\.nextRetry) == [nil, nil])
    }

    @Test("The next retry is the earliest future one of a profile that is not settled")
    func nextRetry() throws {
        let now = MonotonicTime.unixNanoseconds
        let places = try disk.store([.sample(), .sample(), .sample(), .sample()], for: ["a"])
        for (place, due) in zip(places, [now + 50 << 40, now + 40 << 40, now - 1, now + 30 << 40]) {
            try disk.note([place], "a", SpoolAttempt(count: 7, progress: 0, due: due, owner: 1))
        }
        try disk.note([places[3]], "a")
        let found = try #require(try QueueSummary.all(disk.dataDirectory).queues.first)
        #expect(found.nextRetry == now + 40 << 40)
        #expect(found.oldest?.attempts == 7)
    }

    @Test("The oldest waiting profiles are listed first up to a limit, and settled ones are found by their sequence")
    func waiting() throws {
        let profiles = try (0..<8).map { _ in try ReceivedProfile.sample(body: 20_000) }
        let places = try disk.store(profiles, for: ["a", "b"], Self.small)
        try disk.note([places[0]], "a")
        let reader = try ReadOnlySpool(disk.dataDirectory)
        let (records, total, _) = reader.waiting(for: "a", limit: 3)
        #expect(total == 7)
        #expect(records.map(\.entry.sequence) == profiles[1...3].map(\.sequence))
        #expect(reader.waiting(for: nil, limit: 0).records.count == 8)
        #expect(reader.waiting(for: "nobody", limit: 0).records.isEmpty)
        let first = try #require(reader.record(profiles[0].sequence).record)
        #expect(first.states.map(\.isSettled) == [true, false])
        #expect(try first.profile(reader.folder)?.sequence == profiles[0].sequence)
    }

    // MARK: Damage

    @Test("Damage is found in each file of a segment", arguments: SpoolFormat.File.allCases, [false, true])
    func flips(file: SpoolFormat.File, isInHead: Bool) throws {
        let places = try disk.store([.sample(body: 100), .sample(body: 100)], for: ["a", "b"])
        try disk.note([places[0]], "a")
        #expect(try damages() == [])
        try disk.change(file) { $0[isInHead ? 20 : $0.count - 1] ^= 1 }
        let found = try damages()
        #expect(found.map(\.file) == [file.name(of: 1)])
        #expect(found.first?.offset == 0 || !isInHead)
        if file == .records, !isInHead { #expect(found.first?.receivers == ["a", "b"]) }
    }

    @Test("A damaged record that all receivers have settled is reported as settled")
    func settled() throws {
        let places = try disk.store([.sample(body: 100), .sample(body: 100)], for: ["a"])
        try disk.note([places[0]], "a")
        try disk.change(.records) { $0[Int(places[0].offset + places[0].length) - 1] ^= 1 }
        let found = try damages()
        #expect(found.map(\.isSettled) == [true])
        #expect(found.first?.offset == Int(places[0].offset))
    }

    @Test("Bytes after the last index entry are damage when no gateway is writing, also after another start")
    func tail() throws {
        try disk.store([.sample(body: 100)], for: ["a"])
        try disk.withSpool { spool in
            try disk.change(.records) { $0 += [1, 2, 3] }
            #expect(try damages(isRunning: true) == [])
            #expect(try QueueSummary.all(disk.dataDirectory).queues.map(\.profiles) == [1])
        }
        let size = try Data(contentsOf: URL(fileURLWithPath: try disk.file(.records))).count
        let torn = SpoolDamage(
            file: SpoolFormat.File.records.name(of: 1), offset: size - 3, size: 3, what: "bytes that are no record", receivers: ["a"])
        #expect(try damages() == [torn])
        try disk.withSpool { _ in }
        #expect(try damages() == [torn])
        let place = SpoolPosition(segment: 1, ordinal: 1, offset: UInt32(size - 3), length: 3)
        try disk.note([place], "a")
        #expect(try damages() == [])
    }

    @Test("Unknown files and missing files are damage")
    func files() throws {
        try disk.store([.sample(body: 100)], for: ["a"])
        try Data("x".utf8).write(to: URL(fileURLWithPath: "\(disk.folder)/notes.txt"))
        try FileManager.default.removeItem(atPath: try disk.file(.index))
        #expect(try damages().map(\.file) == ["notes.txt", SpoolFormat.File.index.name(of: 1)])
        try FileManager.default.removeItem(atPath: "\(disk.folder)/notes.txt")
        try disk.withSpool { _ in }
        #expect(try damages() == [])
        try FileManager.default.removeItem(atPath: try disk.file(.records))
        #expect(try damages().map(\.receivers) == [["a"]])
    }

    // MARK: Dropping

    @Test("A profile dropped for one receiver stays for the others, and a segment goes when no receiver needs it")
    func drop() throws {
        let profiles = try (0..<3).map { try ReceivedProfile.sample(body: $0) }
        try disk.store(profiles, for: ["a", "b"])
        do {
            var drop = try SpoolDrop(disk.dataDirectory, "a", .sequences([profiles[1].sequence]))
            #expect(drop.profiles == 1)
            try drop.run()
            #expect(drop.segmentsRemoved == 0)
        }
        #expect(try QueueSummary.all(disk.dataDirectory).queues.map(\.profiles) == [2, 3])
        for receiver in ["b", "a"] {
            var drop = try SpoolDrop(disk.dataDirectory, receiver, .all)
            try drop.run()
            #expect(drop.segmentsRemoved == (receiver == "a" ? 1 : 0))
        }
        #expect(try FileManager.default.contentsOfDirectory(atPath: disk.folder) == [])
        #expect(try damages() == [])
    }

    @Test("Profiles can be dropped by age, and sequences that do not wait are reported")
    func choices() throws {
        let profiles = try (0..<3).map { try ReceivedProfile.sample(body: $0) }
        try disk.store(profiles, for: ["a"])
        let now = MonotonicTime.unixNanoseconds
        #expect(try SpoolDrop(disk.dataDirectory, "a", .before(now)).profiles == 3)
        #expect(try SpoolDrop(disk.dataDirectory, "a", .before(now - 1 << 40)).profiles == 0)
        #expect(try SpoolDrop(disk.dataDirectory, "a", .sequences([1, profiles[0].sequence])).unknown == [1])
        #expect(try SpoolDrop(disk.dataDirectory, "b", .all).profiles == 0)
    }

    @Test("Nothing can be dropped while the spool is in use")
    func locked() throws {
        try disk.withSpool { _ in
            _ = #expect(throws: SpoolRecovery.Refusal.self) { _ = try SpoolDrop(disk.dataDirectory, "a", .all).profiles }
        }
    }
}
