import Foundation
import PluginABI
import Testing

@testable import TestSupport

@Suite("FileSink limits and retention")
struct FileSinkRetentionTests {
    private static let hour: Int64 = 3_600_000_000_000
    private let folder: TestFolder
    private let host = TestHost()

    private var archive: String { folder.path("archive") }
    private var index: String { "\(archive)/.gateway-archive-index" }

    init() throws { folder = try TestFolder() }

    /// Creates an instance with these limits on the archive.
    private func sink(_ bounds: String = "", _ host: TestHost? = nil) throws -> LoadedInstance {
        let config = "{\"directory\":\"\(archive)\"\(bounds.isEmpty ? "" : ",\(bounds)")}"
        return try LoadedPlugin.release("FileSink").create(config, host ?? self.host)
    }

    /// A profile received this many minutes after ``TestProfile/someTime``.
    private static func profile(_ minutes: Int, tenant: String = "", service: String = "checkout", samples: Int = 1) -> TestProfile {
        TestProfile(
            sequence: UInt64(100 + minutes), receivedAt: TestProfile.someTime + Int64(minutes) * 60_000_000_000, tenant: tenant,
            labels: [("service_name", service)], samples: (0..<samples).map { ("\($0)", Array("profile".utf8)) })
    }

    /// The profiles in the archive, by the minutes of ``profile(_:tenant:service:samples:)``.
    private func minutes(in path: String? = nil) -> [Int] {
        let files = TestFolder.files(below: path ?? archive).filter { $0.hasSuffix("Z-\($0.split(separator: "-").last ?? "")") }
        return files.filter { $0.hasSuffix(".json") }.compactMap { file in
            file.split(separator: "-").last.flatMap { Int($0.dropLast(5)) }.map { $0 - 100 }
        }.sorted()
    }

    /// Waits until this many profiles have been removed for this reason.
    private func removed(_ reason: String, _ count: Int64, _ host: TestHost? = nil) throws {
        try (host ?? self.host).wait(for: "gateway_file_removed_profiles_total", ["reason": reason], toBe: count)
    }

    // MARK: Limits

    @Test("Beyond max_files the oldest profiles are removed, of whatever tenant")
    func maxFiles() throws {
        let sink = try sink(#""max_files":6"#)
        for (minute, tenant) in [(3, "b"), (1, "a"), (70, "b")] {
            #expect(try sink.deliver(Self.profile(minute, tenant: tenant)).status == .delivered)
        }
        try host.wait(for: "gateway_file_archive_files", toBe: 6)
        #expect(minutes() == [1, 3, 70])
        #expect(try sink.deliver(Self.profile(2, tenant: "c")).status == .delivered)
        try removed("max_files", 1)
        #expect(minutes() == [2, 3, 70])
        #expect(try sink.deliver(Self.profile(71, tenant: "c", samples: 2)).status == .delivered)
        try removed("max_files", 3)
        #expect(minutes() == [70, 71])
        // The folders of removed profiles are gone too.
        #expect(try FileManager.default.contentsOfDirectory(atPath: archive).sorted() == [".gateway-archive-index", "b", "c"])
        #expect(try sink.deliver(Self.profile(72, samples: 6)).status == .rejected)
        #expect(try sink.deliver(Self.profile(72, samples: 5)).status == .delivered)
        try removed("max_files", 5)
        #expect(minutes() == [72])
    }

    @Test(
        "Profiles that cannot be removed are passed over, and removed when they can be",
        .enabled(if: LockedFolder.isPossible, LockedFolder.reason))
    func locked() throws {
        var sink = try sink()
        for minute in [1, 2, 70] { #expect(try sink.deliver(Self.profile(minute, tenant: "a")).status == .delivered) }
        for minute in [3, 71, 72] { #expect(try sink.deliver(Self.profile(minute, tenant: "b")).status == .delivered) }
        sink.destroy()
        let oldest = try #require(TestFolder.files(below: archive).first { $0.hasPrefix("a/") && $0.hasSuffix("-101.json") })
        let locked = LockedFolder("\(archive)/\((oldest as NSString).deletingLastPathComponent)")
        let other = TestHost()
        sink = try self.sink(#""max_files":6"#, other)
        #expect(try sink.deliver(Self.profile(73, tenant: "b")).status == .delivered)
        // Of the second hour, and not only of the first one's other tenant.
        try removed("max_files", 4, other)
        #expect(minutes() == [1, 2, 73])
        #expect(other.said.current.logs.count { $0.contains("cannot be removed; others are removed instead") } == 1)
        sink.destroy()
        // The others keep half of the bound, though it is exceeded.
        sink = try self.sink(#""max_files":4"#, other)
        for minute in 74...76 { #expect(try sink.deliver(Self.profile(minute, tenant: "b")).status == .delivered) }
        try removed("max_files", 7, other)
        #expect(minutes() == [1, 2, 76])
        sink.destroy()
        _ = consume locked
        sink = try self.sink(#""max_files":2"#, other)
        #expect(try other.outcome(of: sink.flush()).status == .delivered)
        try removed("max_files", 9, other)
        #expect(minutes() == [76])
    }

    @Test("A byte beyond max_bytes removes the oldest profile, and a larger profile is rejected")
    func maxBytes() throws {
        let unbounded = try sink("", TestHost())
        #expect(try unbounded.deliver(Self.profile(1)).status == .delivered)
        unbounded.destroy()
        let size = try TestFolder.files(below: archive).reduce(0) { try $0 + TestFolder.bytes(of: "\(archive)/\($1)").count }
        try FileManager.default.removeItem(atPath: archive)
        var sink = try sink("\"max_bytes\":\(3 * size)")
        for minute in 2...4 { #expect(try sink.deliver(Self.profile(minute)).status == .delivered) }
        try host.wait(for: "gateway_file_archive_bytes", toBe: Int64(3 * size))
        #expect(minutes() == [2, 3, 4])
        sink.destroy()
        let other = TestHost()
        sink = try self.sink("\"max_bytes\":\(3 * size - 1)", other)
        #expect(try other.outcome(of: sink.flush()).status == .delivered)
        try removed("max_bytes", 1, other)
        try other.wait(for: "gateway_file_removed_bytes_total", toBe: Int64(size))
        #expect(minutes() == [3, 4])
        sink.destroy()
        sink = try self.sink("\"max_bytes\":\(size - 1)", TestHost())
        let outcome = try sink.deliver(Self.profile(5))
        #expect((outcome.status, outcome.reason) == (.rejected, "larger than max_bytes"))
        sink.destroy()
        sink = try self.sink("\"max_bytes\":\(size)", TestHost())
        #expect(try sink.deliver(Self.profile(5)).status == .delivered)
    }

    @Test("Profiles older than max_age are removed, also while none arrive, and younger ones stay")
    func maxAge() throws {
        let sink = try sink(#""max_age":"1h""#)
        let now = Int64(Date().timeIntervalSince1970 * 1e9)
        let young = TestProfile(sequence: 1, receivedAt: now)
        #expect(try sink.deliver(young).status == .delivered)
        for (sequence, age) in [(2, Self.hour + 60_000_000_000), (3, 30 * Self.hour), (4, Self.hour - 600_000_000_000)] {
            #expect(try sink.deliver(TestProfile(sequence: UInt64(sequence), receivedAt: now - age)).status == .delivered)
        }
        try removed("max_age", 2)
        let left = TestFolder.files(below: archive).filter { $0.hasSuffix(".json") }
        #expect(left.count == 2 && left.contains { $0.hasSuffix("-1.json") } && left.contains { $0.hasSuffix("-4.json") })
        let other = TestHost()
        let second = try LoadedPlugin.release("FileSink").create(
            "{\"directory\":\"\(folder.path("other"))\",\"max_age\":\"1s\"}", other)
        #expect(try second.deliver(TestProfile(receivedAt: now)).status == .delivered)
        try removed("max_age", 1, other)
    }

    @Test("Profiles received at the same time are removed in the order of their sequence")
    func sameTime() throws {
        let sink = try sink(#""max_files":8"#)
        for sequence in 95...105 { #expect(try sink.deliver(TestProfile(sequence: UInt64(sequence))).status == .delivered) }
        try removed("max_files", 7)
        let left = TestFolder.files(below: archive).filter { $0.hasSuffix(".json") }.compactMap { $0.split(separator: "-").last }
        #expect(left.sorted() == ["102.json", "103.json", "104.json", "105.json"])
    }

    @Test("Without limits nothing is removed, and the index of former limits is deleted")
    func unbounded() throws {
        let bounded = try sink(#""max_files":100"#)
        #expect(try bounded.deliver(Self.profile(1)).status == .delivered)
        bounded.destroy()
        #expect(FileManager.default.fileExists(atPath: index))
        let other = TestHost()
        let sink = try sink("", other)
        for minute in 2...5 { #expect(try sink.deliver(Self.profile(minute)).status == .delivered) }
        #expect(try other.outcome(of: sink.flush()).status == .delivered)
        #expect(minutes() == [1, 2, 3, 4, 5])
        #expect(!FileManager.default.fileExists(atPath: index))
        #expect(other.said.current.metrics == [])
    }

    @Test("Foreign files are neither counted nor removed, and no link is followed")
    func foreign() throws {
        let hour = "anonymous/checkout/2026/01/31/23"
        let outside = try folder.folder("outside/2026/01/31/23")
        _ = try folder.write("outside/2026/01/31/23/20260131T230000.000000000Z-1.json", "theirs")
        _ = try folder.folder("archive/\(hour)")
        _ = try folder.folder("archive/backup/2026")
        for file in [
            "notes.txt", "\(hour)/notes.txt", "\(hour)/20250131T230000.000000000Z-1.json", "backup/2026/20260131T230000.000000000Z-1.json",
        ] {
            _ = try folder.write("archive/\(file)", "theirs")
        }
        try FileManager.default.createSymbolicLink(
            atPath: "\(archive)/\(hour)/20260131T230000.000000000Z-1.json", withDestinationPath: "\(archive)/notes.txt")
        try FileManager.default.createSymbolicLink(
            atPath: "\(archive)/anonymous/linked", withDestinationPath: folder.path("outside"))
        let before = Set(FileManager.default.subpaths(atPath: folder.path) ?? [])
        let sink = try sink(#""max_files":2"#)
        #expect(try sink.deliver(Self.profile(0)).status == .delivered)
        #expect(try sink.deliver(Self.profile(61)).status == .delivered)
        try removed("max_files", 1)
        try host.wait(for: "gateway_file_archive_files", toBe: 2)
        #expect(before.subtracting(FileManager.default.subpaths(atPath: folder.path) ?? []) == [])
        #expect(try FileManager.default.contentsOfDirectory(atPath: outside).count == 1)
    }

    // MARK: Restarts

    @Test("After a restart the index is used, and only hours that were changing are counted again")
    func restart() throws {
        let first = try sink(#""max_files":100"#)
        for minute in [1, 2, 61] { #expect(try first.deliver(Self.profile(minute)).status == .delivered) }
        let killed = try Project.text(of: index)
        #expect(killed.split(separator: "\n").dropFirst().dropLast().allSatisfy { $0.hasSuffix(" changing") })
        first.destroy()
        let ended = try Project.text(of: index)
        #expect(ended.split(separator: "\n").count == 4 && !ended.contains("changing"))
        #expect(ended.contains("20260201T00 4 ") && ended.contains("20260201T01 2 "))
        // One entry is wrong about an hour that nobody reads again, and the other was being changed.
        let changed = ended.replacing("20260201T00 4 ", with: "20260201T00 40 ").split(separator: "\n").map { line in
            line.hasPrefix("20260201T01") ? "20260201T01 0 0 changing" : String(line)
        }
        _ = try folder.write("archive/.gateway-archive-index", changed.joined(separator: "\n") + "\n")
        let host = TestHost()
        let second = try sink(#""max_files":100"#, host)
        #expect(try host.outcome(of: second.flush()).status == .delivered)
        try host.wait(for: "gateway_file_archive_files", toBe: 42)
        second.destroy()
    }

    @Test(
        "Without a complete index all files are counted before any is removed", arguments: ["", "gateway-archive-index 1\nend 7\n", nil])
    func uncounted(text: String?) throws {
        let first = try sink("", TestHost())
        for minute in 1...200 {
            #expect(try first.deliver(Self.profile(minute, tenant: "t\(minute % 3)", service: "s\(minute % 50)")).status == .delivered)
        }
        first.destroy()
        if let text { _ = try folder.write("archive/.gateway-archive-index", text) }
        let second = try sink(#""max_files":20"#)
        #expect(try second.deliver(Self.profile(201)).status == .delivered)
        try removed("max_files", 191)
        #expect(minutes() == Array(192...201))
        second.destroy()
        #expect(try Project.text(of: index).hasSuffix("end \(Set((192...201).map { ($0 - 1) / 60 }).count)\n"))
    }

    @Test("Only one instance enforces the limits of an archive, and the next one takes over")
    func lock() throws {
        let first = try sink(#""max_files":100"#)
        #expect(try first.deliver(Self.profile(1)).status == .delivered)
        try host.wait(for: "gateway_file_archive_files", toBe: 2)
        let other = TestHost()
        let second = try sink(#""max_files":4"#, other)
        for minute in 2...5 { #expect(try second.deliver(Self.profile(minute)).status == .delivered) }
        #expect(try other.outcome(of: second.flush()).status == .delivered)
        #expect(minutes() == [1, 2, 3, 4, 5])
        first.destroy()
        try removed("max_files", 3, other)
        #expect(minutes() == [4, 5])
    }

    // MARK: Free space, modes and links

    @Test("Below min_free_bytes nothing is written or removed, and the receiver is failed")
    func minFreeBytes() throws {
        let full = try sink(#""min_free_bytes":"8000000TiB","max_files":2"#)
        #expect(try host.health("failed") { $0 == .failed }.contains("min_free_bytes"))
        let outcome = try full.deliver(Self.profile(1))
        #expect(outcome.status == .retry)
        #expect(outcome.reason.contains("min_free_bytes") && outcome.reason.contains("No space left on device"))
        full.destroy()
        for off in ["0", "\"1KiB\""] {
            let host = TestHost()
            #expect(try sink("\"min_free_bytes\":\(off)", host).deliver(Self.profile(1)).status == .delivered)
            #expect(host.said.current.healths.isEmpty)
        }
    }

    @Test(
        "Files and folders are not accessible to others by default, and modes of the config override the umask",
        arguments: [
            ("", 0o640, 0o750), (#""file_mode":"0666","directory_mode":"0777""#, 0o666, 0o777), (#""file_mode":"600""#, 0o600, 0o750),
        ])
    func modes(config: String, file: Int, directory: Int) throws {
        let sink = try sink(config + (config.isEmpty ? "" : ",") + #""max_files":9"#)
        #expect(try sink.deliver(Self.profile(1)).status == .delivered)
        sink.destroy()
        for path in [""] + (FileManager.default.subpaths(atPath: archive) ?? []) {
            let attributes = try FileManager.default.attributesOfItem(atPath: "\(archive)/\(path)")
            let isFolder = attributes[.type] as? FileAttributeType == .typeDirectory
            #expect(attributes[.posixPermissions] as? Int == (isFolder ? directory : file), "\(path)")
        }
    }

    @Test(
        "A link in place of a folder or file is not followed, and affects no other profile",
        arguments: [
            "stuck", "stuck/app", "stuck/app/2026", "stuck/app/2026/02/01/00",
        ])
    func plantedLink(place: String) throws {
        let outside = try folder.folder("outside")
        let link = "\(archive)/\(place)"
        try FileManager.default.createDirectory(
            atPath: (link as NSString).deletingLastPathComponent, withIntermediateDirectories: true)
        try FileManager.default.createSymbolicLink(atPath: link, withDestinationPath: outside)
        let sink = try sink()
        let outcome = try sink.deliver(Self.profile(1, tenant: "stuck", service: "app"))
        #expect(outcome.status == .rejected)
        #expect(outcome.reason.contains("\(link), which is a link"))
        #expect(try sink.deliver(Self.profile(2, tenant: "free")).status == .delivered)
        #expect(TestFolder.files(below: outside) == [])
        #expect(host.said.current.healths.isEmpty)
    }

    @Test("A link in place of a payload is not followed")
    func plantedFile() throws {
        let target = try folder.write("target", "profile")
        let path = "\(archive)/anonymous/checkout/2026/02/01/00/20260201T000059.123456789Z-101.pprof"
        try FileManager.default.createDirectory(
            atPath: (path as NSString).deletingLastPathComponent, withIntermediateDirectories: true)
        try FileManager.default.createSymbolicLink(atPath: path, withDestinationPath: target)
        let sink = try sink()
        #expect(try sink.deliver(Self.profile(1)).status == .rejected)
        #expect(try Project.text(of: target) == "profile")
    }

    @Test("A tenant's profile is written before the whole backlog of another tenant")
    func turns() throws {
        let large = [UInt8](repeating: 7, count: 8 << 20)
        let flood = (0..<16).map { TestProfile(sequence: UInt64($0), tenant: "flood", samples: [("", large)]) }
        let good = TestProfile(sequence: 99, tenant: "good")
        let sink = try sink()
        // The good one comes before most of the others, so that a machine that stands still here changes nothing.
        var tokens = flood.prefix(4).map { sink.begin($0) }
        let token = sink.begin(good)
        tokens += flood.dropFirst(4).map { sink.begin($0) }
        for token in tokens + [token] { #expect(try host.outcome(of: token).status == .delivered) }
        let order = host.said.current.finishes.map(\.token)
        let place = try #require(order.firstIndex(of: token))
        #expect(place < order.count - 8, "it was finished as number \(place + 1) of \(order.count)")
    }

    @Test(
        "An invalid limit is refused by name",
        arguments: [
            (#""max_age":"0s""#, "max_age: must be a duration"), (#""max_age":7"#, "max_age: must be a duration"),
            (#""max_bytes":0"#, "max_bytes: must be a size"), (#""max_bytes":"7 days""#, "max_bytes: must be a size"),
            (#""max_files":1"#, "max_files: must be a whole number, 2 or more, is 1"), (#""max_files":-1"#, "max_files: must be"),
            (#""min_free_bytes":-1"#, "min_free_bytes: must be a size"), (#""file_mode":640"#, "file_mode: must be a string"),
            (#""file_mode":"0755""#, "file_mode: makes files executable"), (#""directory_mode":"0640""#, "directory_mode: would keep"),
            (#""retention":"7d""#, "retention: unknown"),
        ])
    func refused(member: String, problem: String) throws {
        let lines = try LoadedPlugin.release("FileSink").refusal(of: "{\"directory\":\"\(archive)\",\(member)}")
        #expect(lines.count == 1 && lines[0].hasPrefix(problem), "\(lines)")
    }
}
