import Foundation
import LinuxSystem
import Testing

@testable import HTTPServer
@testable import ProfileAPI
@testable import Profiles
@testable import SpoolStore
@testable import TestSupport

@Suite("Accepted requests on disk")
struct RequestJournalTests {
    private struct Unexpected: Error {
        let what: String
    }

    private static func journal(
        _ folder: borrowing TestFolder, limit: Int = 100, sync: SpoolConfig.Sync = .always
    ) -> RequestJournal {
        RequestJournal(in: DataDirectory(folder.path), SpoolConfig(sync: sync), limit: limit, window: .seconds(300))
    }

    private static func request(_ number: Int, at time: Int64 = MonotonicTime.unixNanoseconds) throws -> AcceptedRequest {
        AcceptedRequest(key: try .numbered(number), listener: "l", window: .seconds(300), at: time)
    }

    private static func files(_ folder: borrowing TestFolder) -> [String] {
        ((try? FileManager.default.contentsOfDirectory(atPath: "\(folder.path)/requests")) ?? []).sorted()
    }

    /// The requests that a start finds.
    private static func read(_ folder: borrowing TestFolder) -> [AcceptedRequest] {
        let requests = WaitableValue<[AcceptedRequest]>([])
        journal(folder).read { request in requests.update { $0.append(request) } }
        return requests.current
    }

    /// Notes these requests like one process, which waits for each and then stops.
    private static func note(
        _ requests: [AcceptedRequest], _ folder: borrowing TestFolder, limit: Int = 100, sync: SpoolConfig.Sync = .always
    ) throws {
        let journal = journal(folder, limit: limit, sync: sync)
        journal.read { _ in }
        try journal.start()
        for request in requests {
            let isDone = WaitableValue(false)
            journal.append(request) { isDone.update { $0 = true } }
            _ = try isDone.wait { $0 ? true : nil }
        }
        journal.stop()
    }

    @Test("A start finds the noted requests in order, and notes new ones in the same file", arguments: SpoolConfig.Sync.allCases)
    func restart(sync: SpoolConfig.Sync) throws {
        let folder = try TestFolder()
        let requests = try (0..<5).map { try Self.request($0) }
        try Self.note(Array(requests[..<3]), folder, sync: sync)
        #expect(Self.read(folder) == Array(requests[..<3]))
        try Self.note(Array(requests[3...]), folder, sync: sync)
        #expect(Self.read(folder) == requests)
        #expect(Self.files(folder).count == 1)
    }

    @Test("A request after the stop is answered without being noted")
    func stopped() throws {
        let folder = try TestFolder()
        let journal = Self.journal(folder)
        try journal.start()
        journal.stop()
        let isDone = WaitableValue(false)
        journal.append(try Self.request(1)) { isDone.update { $0 = true } }
        #expect(isDone.current)
        #expect(Self.read(folder).isEmpty)
    }

    @Test("A limit of ten leaves at most two files of ten requests each", arguments: [9, 10, 11, 20, 21, 57])
    func generations(count: Int) throws {
        let folder = try TestFolder()
        let requests = try (0..<count).map { try Self.request($0) }
        try Self.note(requests, folder, limit: 10)
        let kept = Self.read(folder)
        #expect(Self.files(folder).count == (count <= 10 ? 1 : 2))
        #expect(kept == requests.suffix(kept.count))
        #expect(kept.count == (count <= 20 ? count : 10 + (count - 1) % 10 + 1))
    }

    @Test("A burst of more requests than a file holds is answered, and the last ones are kept")
    func burst() throws {
        let folder = try TestFolder()
        let journal = Self.journal(folder, limit: 10)
        let done = WaitableValue(0)
        for number in 0..<35 { journal.append(try Self.request(number)) { done.update { $0 += 1 } } }
        try journal.start()
        journal.stop()
        #expect(done.current == 35)
        let last = try (20..<35).map { try RequestKey.numbered($0) }
        #expect(Self.read(folder).map(\.key) == last)
    }

    // MARK: Damage

    /// Changes the content of the last file.
    private static func change(_ folder: borrowing TestFolder, _ body: (inout Data) -> Void) throws {
        let url = URL(fileURLWithPath: "\(folder.path)/requests/\(try #require(files(folder).last))")
        var data = try Data(contentsOf: url)
        body(&data)
        try data.write(to: url)
    }

    @Test("A flipped bit loses only its own request", arguments: 0..<56)
    func flipped(byte: Int) throws {
        let folder = try TestFolder()
        let requests = try (0..<3).map { try Self.request($0) }
        try Self.note(requests, folder)
        try Self.change(folder) { $0[32 + 56 + byte] ^= 0x10 }
        #expect(Self.read(folder) == [requests[0], requests[2]])
    }

    @Test("A truncated record is overwritten", arguments: [1, 28, 55])
    func cutOff(missing: Int) throws {
        let folder = try TestFolder()
        let requests = try (0..<3).map { try Self.request($0) }
        try Self.note(Array(requests[..<2]), folder)
        try Self.change(folder) { $0.removeLast(missing) }
        try Self.note([requests[2]], folder)
        #expect(Self.read(folder) == [requests[0], requests[2]])
    }

    @Test("A file with a damaged or missing header is ignored, and another one is begun", arguments: [0, 5, 31, 32])
    func beginning(byte: Int) throws {
        let folder = try TestFolder()
        let requests = try (0..<3).map { try Self.request($0) }
        try Self.note([requests[0]], folder)
        try Self.change(folder) { data in if byte < 32 { data[byte] ^= 1 } else { data = Data() } }
        #expect(Self.read(folder).isEmpty)
        try Self.note([requests[1]], folder)
        try Self.note([requests[2]], folder)
        #expect(Self.read(folder) == [requests[1], requests[2]])
    }

    @Test("Files of a later version and files with other names are left alone")
    func newer() throws {
        let folder = try TestFolder()
        try Self.note([try Self.request(1)], folder)
        try Self.change(folder) { data in
            data[8] = 2
            let sum = CRC32C.of(Array(data[..<28]))
            for index in 0..<4 { data[28 + index] = UInt8(truncatingIfNeeded: sum >> (8 * UInt32(index))) }
        }
        try Data("x".utf8).write(to: URL(fileURLWithPath: "\(folder.path)/requests/notes.txt"))
        let before = Self.files(folder)
        try Self.note([try Self.request(2)], folder, limit: 1)
        try Self.note([try Self.request(3), try Self.request(4)], folder, limit: 1)
        let last = [try RequestKey.numbered(3), try RequestKey.numbered(4)]
        #expect(Self.read(folder).map(\.key) == last)
        #expect(Set(before).isSubset(of: Self.files(folder)))
    }

    @Test("A pipe, folder or link in place of a file is left alone", arguments: ["pipe", "folder", "link"])
    func special(kind: String) throws {
        let folder = try TestFolder()
        try Self.note([try Self.request(1)], folder)
        let path = "\(folder.path)/requests/\(RequestFile.name(7))"
        switch kind {
        case "pipe": try #require(mkfifo(path, 0o600) == 0)
        case "folder": _ = try folder.folder("requests/\(RequestFile.name(7))")
        default: _ = try folder.link("requests/\(RequestFile.name(7))", to: "/dev/zero")
        }
        try Self.note([try Self.request(2), try Self.request(3), try Self.request(4)], folder, limit: 1)
        let last = [try RequestKey.numbered(3), try RequestKey.numbered(4)]
        #expect(Self.read(folder).map(\.key) == last)
        #expect(Self.files(folder) == [RequestFile.name(7), RequestFile.name(9), RequestFile.name(10)])
    }

    @Test("A folder that cannot be listed at the start keeps its files, which are read once it can be")
    func unlisted() throws {
        let folder = try TestFolder()
        let requests = try (0..<3).map { try Self.request($0) }
        try Self.note(requests, folder)
        let (path, away) = ("\(folder.path)/requests", "\(folder.path)/away")
        try FileManager.default.moveItem(atPath: path, toPath: away)
        _ = try folder.file("requests", "no folder")
        let (found, journal) = (WaitableValue<[AcceptedRequest]>([]), Self.journal(folder))
        journal.read { request in found.update { $0.append(request) } }
        try journal.start()
        let isDone = WaitableValue(false)
        journal.append(try Self.request(9)) { isDone.update { $0 = true } }
        #expect(try isDone.wait { $0 ? true : nil })
        try FileManager.default.removeItem(atPath: path)
        try FileManager.default.moveItem(atPath: away, toPath: path)
        #expect(try found.wait { $0.count == 3 ? $0 : nil } == requests)
        journal.append(try Self.request(10)) {}
        journal.stop()
        #expect(Self.read(folder).map(\.key) == (try [0, 1, 2, 10].map { try RequestKey.numbered($0) }))
    }

    @Test("Requests are answered even if nothing can be written")
    func unwritable() throws {
        let folder = try TestFolder()
        _ = try folder.file("requests", "no folder")
        try Self.note([try Self.request(1), try Self.request(2)], folder)
        #expect(Self.read(folder).isEmpty)
    }

    // MARK: Time

    /// The seconds left of a window of 300 s after `age` seconds, in a memory with a window of `window` seconds.
    typealias Case = (window: Int64, age: Int64, left: Int64)

    @Test(
        "A request is remembered for the rest of its window, or of a shorter one in the current config",
        arguments: [
            (300, 0, 300), (300, 299, 1), (300, 300, 0), (300, 1000, 0), (60, 30, 30), (60, 60, 0), (3600, 200, 100), (300, -50, 300),
        ])
    func left(of test: Case) throws {
        let request = try Self.request(1, at: 1_000_000_000_000)
        let left = request.left(unixNow: 1_000_000_000_000 + test.age * 1_000_000_000, window: .seconds(test.window))
        #expect(left == .seconds(test.left))
    }

    @Test("A memory restores only requests of its own listener whose windows have not ended")
    func restore() throws {
        let memory = RequestMemory(listener: "l", window: .seconds(300))
        let now = MonotonicTime.unixNanoseconds
        let other = AcceptedRequest(key: try .numbered(1), listener: "m", window: .seconds(300), at: now)
        let old = try Self.request(2, at: now - 300_000_000_000)
        for request in [other, old, try Self.request(3, at: now)] { memory.restore(request, now: .now, unixNow: now) }
        #expect(memory.counts.accepted == 1)
        guard case .answered = memory.admit(try .numbered(3), from: ConnectionKey(rawValue: 0), success: .ok, tell: { _ in }) else {
            throw Unexpected(what: "it is known")
        }
    }

    @Test("A request and its repeats are answered only after the request is noted")
    func order() throws {
        let folder = try TestFolder()
        let journal = Self.journal(folder)
        let memory = RequestMemory(listener: "l", window: .seconds(300), journal: journal)
        let told = WaitableValue<[String]>([])
        let key = try RequestKey.numbered(1)
        func admit(_ connection: UInt64) -> RequestMemory.Admission {
            memory.admit(key, from: ConnectionKey(rawValue: connection), success: .ok, tell: { _ in told.update { $0.append("second") } })
        }
        guard case .first(let ticket) = admit(1) else { throw Unexpected(what: "it is the first") }
        #expect(memory.finish(ticket, .ok, send: { _ in told.update { $0.append("first") } }) == nil)
        guard case .waiting = admit(2) else { throw Unexpected(what: "it waits for the disk too") }
        #expect(told.current.isEmpty)
        try journal.start()
        journal.stop()
        #expect(told.current.sorted() == ["first", "second"])
        #expect(Self.read(folder).map(\.key) == [key])
    }

    @Test("A failed request is not noted")
    func failure() throws {
        let folder = try TestFolder()
        let journal = Self.journal(folder)
        try journal.start()
        let memory = RequestMemory(listener: "l", window: .seconds(300), journal: journal)
        guard case .first(let ticket) = memory.admit(try .numbered(1), from: ConnectionKey(rawValue: 1), success: .ok, tell: { _ in })
        else { throw Unexpected(what: "it is the first") }
        #expect(memory.finish(ticket, .error(503, "full"), send: { _ in })?.status == 503)
        journal.stop()
        #expect(Self.files(folder).isEmpty)
    }

    // MARK: Forged numbers

    /// Writes a file with this number and creation time.
    private static func write(_ number: UInt64, created: Int64, _ records: [AcceptedRequest], _ folder: borrowing TestFolder) throws {
        var head = LittleEndianWriter()
        for value: UInt64 in [0x3154_5345_5551_5247, 1, UInt64(bitPattern: created)] { head.add(value) }
        head.add(UInt32(9))
        head.add(CRC32C.of(head.bytes))
        let bytes = head.bytes + records.flatMap { $0.encoded(seed: 9) }
        try FileManager.default.createDirectory(atPath: "\(folder.path)/requests", withIntermediateDirectories: true)
        try Data(bytes).write(to: URL(fileURLWithPath: "\(folder.path)/requests/\(RequestFile.name(number))"))
    }

    @Test(
        "Requests are noted beside files with any number",
        arguments: [.max, .max - 1, 1 << 63, (1 << 63) - 1] as [UInt64])
    func largeNumber(number: UInt64) throws {
        let folder = try TestFolder()
        try Self.write(number, created: .min, [try Self.request(1)], folder)
        if number == UInt64(Int64.max) { try Self.write(number + 1, created: .min, [], folder) }
        let request = try Self.request(2)
        try Self.note([request], folder)
        let isOurs = number <= RequestFile.largestNumber
        // The new file's number follows the largest valid one; if it is too large itself, the next start does not read the file.
        #expect(Self.files(folder).count == (number == UInt64(Int64.max) ? 3 : 2))
        #expect(Self.read(folder) == (isOurs ? [try Self.request(1, at: Self.read(folder)[0].acceptedAt)] : [request]))
    }

    @Test(
        "A request with an impossible time is remembered for at most its window, and others are noted after it",
        arguments: [.min, -1, 0, .max] as [Int64])
    func oddTimes(time: Int64) throws {
        let folder = try TestFolder()
        let odd = AcceptedRequest(key: try .numbered(1), listener: "l", window: .seconds(300), at: time)
        try Self.write(1, created: time, [odd], folder)
        for now in [Int64.min, 0, MonotonicTime.unixNanoseconds, .max] {
            let left = odd.left(unixNow: now, window: .seconds(300))
            #expect(left >= .zero && left <= .seconds(300))
        }
        try Self.note([try Self.request(2)], folder)
        #expect(Self.read(folder).count == 2)
    }

    @Test("A sparse file of a terabyte is read only up to a bound")
    func hole() throws {
        let folder = try TestFolder()
        try Self.write(1, created: 0, [try Self.request(1)], folder)
        try #require(truncate("\(folder.path)/requests/\(RequestFile.name(1))", 1 << 40) == 0)
        #expect(Self.read(folder).count == 1)
    }
}
