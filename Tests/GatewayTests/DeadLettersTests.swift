import Foundation
import LinuxSystem
import ProfileArchive
import Synchronization
import Testing

@testable import Profiles
@testable import Receivers
@testable import SpoolStore
@testable import TestSupport

@Suite("Dead letters")
struct DeadLettersTests: ~Copyable {
    private static let day: Int64 = 86_400_000_000_000
    /// The Unix time of 2026-01-31T23:59:59.123456789Z in nanoseconds.
    private static let someTime: Int64 = 1_769_903_999_123_456_789
    private static let place = "anonymous/checkout/2026/01/31/23/20260131T235959.123456789Z"

    /// A wall clock that a test sets.
    private final class Clock: Sendable {
        private let time = Mutex(DeadLettersTests.someTime)
        func read() -> Int64 { time.withLock { $0 } }
        func advance(_ span: Int64) { time.withLock { $0 += span } }
    }

    private let folder: TestFolder
    private let clock = Clock()

    init() throws { folder = try TestFolder() }

    private var directory: String { "\(folder.path)/dead-letter" }

    private func open(maxBytes: Int = 1 << 30) -> DeadLetters {
        let read = { @Sendable [clock] in clock.read() }
        return DeadLetters(
            in: DataDirectory(folder.path), limits: DeadLetterConfig(maxBytes: maxBytes), clocks: .init(wall: read, age: read))
    }

    /// A letter of a profile with this body.
    private static func letter(
        _ body: String = "body", to receiver: String = "up", receivedAt: Int64 = someTime, service: String = "checkout"
    ) throws -> DeadLetter {
        var bytes = ByteBuffer()
        try bytes.append(Array(body.utf8).span.bytes)
        var content = ProfileContent(
            api: .ingest, receivedAt: receivedAt, path: "/ingest", query: "name=checkout", format: .pprof,
            samples: [.init(range: 0..<bytes.count)])
        content.labels["service_name"] = service
        return DeadLetter(
            profile: ReceivedProfile(content, body: bytes), receiver: receiver, reason: "a \"no\"\n", status: 422, attempts: 3)
    }

    /// Buries letters in order, waits until all are done, and returns the error of each.
    @discardableResult
    private func bury(_ letters: DeadLetters, _ batch: [DeadLetter]) throws -> [SystemError?] {
        let answers = WaitableValue<[(UInt64, SystemError?)]>([])
        for letter in batch {
            letters.bury(letter) { error in answers.update { $0.append((letter.profile.sequence, error)) } }
        }
        let all = try answers.wait { $0.count == batch.count ? $0 : nil }
        return try batch.map { letter in try #require(all.first { $0.0 == letter.profile.sequence }).1 }
    }

    private func bury(_ letters: DeadLetters, _ letter: DeadLetter) throws -> SystemError? { try bury(letters, [letter])[0] }

    /// Waits until the worker has done everything that was handed over before.
    private func catchUp(_ letters: DeadLetters) throws { _ = try bury(letters, Self.letter(to: "barrier")) }

    /// The paths of a receiver's files in its folder.
    private func files(_ receiver: String = "up") -> [String] {
        let names = FileManager.default.enumerator(atPath: "\(directory)/\(receiver)")?.compactMap { $0 as? String } ?? []
        return names.filter { (try? FileStatus(of: "\(directory)/\(receiver)/\($0)"))?.kind == .regular }.sorted()
    }

    /// The bytes that a letter with this body takes on disk.
    private func size(_ body: String = "body") throws -> Int {
        let letters = open()
        _ = try bury(letters, Self.letter(body, to: "me"))
        defer { letters.stop() }
        return letters.bytes(of: "me")
    }

    // MARK: Files

    @Test("A letter is an archived profile whose metadata ends with the reason")
    func layout() throws {
        let letters = open()
        let letter = try Self.letter()
        clock.advance(1_000_000_000)
        #expect(try bury(letters, letter) == nil)
        let stem = "\(Self.place)-\(letter.profile.sequence)"
        #expect(files() == ["\(stem).json", "\(stem).pprof"])
        let path = "\(directory)/up/\(stem)"
        #expect(try String(contentsOfFile: "\(path).pprof", encoding: .utf8) == "body")
        let text = try String(contentsOfFile: "\(path).json", encoding: .utf8)
        let object = try #require(try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
        let note = try #require(object["dead_letter"] as? [String: Any])
        #expect(Set(note.keys) == ["receiver", "reason", "status", "attempts", "at"])
        #expect(note["receiver"] as? String == "up")
        #expect(note["reason"] as? String == "a \"no\"\n")
        #expect((note["status"] as? Int, note["attempts"] as? Int) == (422, 3))
        #expect(note["at"] as? String == "2026-02-01T00:00:00.123Z")
        #expect(text.split(separator: "\n").dropLast().last?.hasPrefix("  \"dead_letter\": {") == true)
        let url = URL(fileURLWithPath: path)
        let folder = try OpenFolder(url.deletingLastPathComponent().path)
        let profile = try ArchivedProfile("\(url.lastPathComponent).json", in: folder)
        let payload = try #require(profile.payloads.first)
        #expect(try profile.bytes(of: payload, in: folder) == Array("body".utf8))
        #expect((letters.count(of: "up"), letters.bytes(of: "up"), letters.removed(of: "up")) == (1, text.utf8.count + 4, 0))
        letters.stop()
    }

    @Test("Each receiver has a folder of its own, even with an unusual name")
    func receivers() throws {
        let letters = open()
        #expect(try bury(letters, ["a", "../b", "", "a"].map { try Self.letter(to: $0) }) == [nil, nil, nil, nil])
        #expect(try FolderListing(directory).folders == ["%2E.%2Fb", "a", "unnamed"])
        #expect(["a", "../b", "", "none"].map(letters.count) == [2, 1, 1, 0])
        #expect(try FolderListing(folder.path).folders == ["dead-letter"])
        letters.stop()
    }

    @Test("Many letters at once are all written, and reported in order")
    func many() throws {
        let letters = open()
        let batch = try (0..<300).map { try Self.letter("body \($0)") }
        let told = WaitableValue<[UInt64]>([])
        for letter in batch {
            letters.bury(letter) { error in if error == nil { told.update { $0.append(letter.profile.sequence) } } }
        }
        #expect(try told.wait { $0.count == 300 ? $0 : nil } == batch.map(\.profile.sequence))
        #expect(files().count == 600)
        #expect(letters.count(of: "up") == 300)
        letters.stop()
    }

    @Test("A profile that is buried again is stored once")
    func again() throws {
        let letters = open()
        let (first, second) = (try Self.letter("one"), try Self.letter("two"))
        try bury(letters, [first])
        try bury(letters, [second])
        let bytes = letters.bytes(of: "up")
        try bury(letters, [first])
        #expect((letters.count(of: "up"), letters.bytes(of: "up"), files().count) == (2, bytes, 4))
        letters.stop()
    }

    @Test("Letters before the stop are all written, and later ones are refused")
    func stop() throws {
        let letters = open()
        let answers = WaitableValue<[SystemError?]>([])
        for _ in 0..<10 { letters.bury(try Self.letter()) { error in answers.update { $0.append(error) } } }
        letters.stop()
        #expect(answers.current == Array(repeating: nil, count: 10))
        #expect(files().count == 20)
        #expect(try bury(letters, Self.letter())?.code == ECANCELED)
    }

    // MARK: Bounds

    @Test("Letters may have max_bytes in total, and beyond it the one that was buried first is removed")
    func maxBytes() throws {
        let size = try size()
        let exact = open(maxBytes: 3 * size)
        let batch = try (0..<4).map { try Self.letter(receivedAt: Self.someTime - Int64($0)) }
        try bury(exact, Array(batch[..<3]))
        #expect((exact.count(of: "up"), exact.bytes(of: "up"), exact.removed(of: "up")) == (3, 3 * size, 0))
        try bury(exact, [batch[3]])
        #expect((exact.count(of: "up"), exact.bytes(of: "up"), exact.removed(of: "up")) == (3, 3 * size, 1))
        // The letter that was buried first is the youngest by its name.
        #expect(!files().contains { $0.contains("-\(batch[0].profile.sequence).") })
        #expect(files().count == 6)
        exact.stop()
        let below = open(maxBytes: 3 * size - 1)
        try catchUp(below)
        #expect((below.count(of: "up"), below.bytes(of: "up"), below.removed(of: "up")) == (2, 2 * size, 1))
        below.stop()
    }

    @Test("A letter of exactly max_bytes is kept, and a larger one is refused")
    func tooLarge() throws {
        let size = try size()
        let exact = open(maxBytes: size)
        #expect(try bury(exact, Self.letter()) == nil)
        #expect(try bury(exact, Self.letter("body+"))?.code == EFBIG)
        #expect((exact.count(of: "up"), exact.bytes(of: "up"), files().count) == (1, size, 2))
        exact.stop()
    }

    @Test("All payloads of a profile are removed with it, also those of an earlier run")
    func severalSamples() throws {
        let batch = try (0..<2).map { _ in try Self.push(samples: 12) }
        let before = open()
        try bury(before, batch)
        #expect(files().count == 26)
        let bytes = before.bytes(of: "up")
        before.stop()
        let after = open(maxBytes: bytes - 1)
        try catchUp(after)
        #expect((after.count(of: "up"), after.bytes(of: "up"), after.removed(of: "up")) == (1, bytes / 2, 1))
        #expect(files().count == 13)
        #expect(files().allSatisfy { $0.contains("-\(batch[1].profile.sequence)") })
        _ = try bury(after, Self.push(samples: 12))
        #expect(files().count == 13)
        after.stop()
    }

    /// A letter of several samples, one of them empty.
    private static func push(samples: Int) throws -> DeadLetter {
        var bytes = ByteBuffer()
        try bytes.append([UInt8](repeating: 1, count: samples).span.bytes)
        var content = ProfileContent(
            api: .push, receivedAt: someTime, path: "/push", format: .pprof,
            samples: (0..<samples).map { .init(id: "\($0)", range: $0..<($0 == 3 ? 3 : $0 + 1)) })
        content.labels["service_name"] = "checkout"
        return DeadLetter(profile: ReceivedProfile(content, body: bytes), receiver: "up", reason: "", status: 0, attempts: 1)
    }

    @Test("A flood of one receiver's letters removes no letter of another receiver")
    func apart() throws {
        let letters = open(maxBytes: try size())
        try bury(letters, [try Self.letter(to: "me")] + (0..<5).map { _ in try Self.letter() })
        #expect((letters.count(of: "me"), letters.count(of: "up"), letters.removed(of: "up")) == (1, 1, 4))
        letters.stop()
    }

    @Test("Letters older than max_age are removed with their empty folders, also while nothing is buried")
    func maxAge() throws {
        let letters = open()
        try bury(letters, [try Self.letter("old"), try Self.letter("old", service: "other")])
        clock.advance(Self.day)
        let young = try Self.letter("young", receivedAt: Self.someTime - 30 * Self.day)
        try bury(letters, [young])
        clock.advance(6 * Self.day)
        letters.tick(now: .at(100))
        try catchUp(letters)
        #expect(letters.count(of: "up") == 3, "as old as max_age is not older")
        clock.advance(1)
        letters.tick(now: .at(159))
        try catchUp(letters)
        #expect(letters.count(of: "up") == 3, "within a minute it is not looked at again")
        letters.tick(now: .at(160))
        try catchUp(letters)
        #expect((letters.count(of: "up"), letters.removed(of: "up")) == (1, 2))
        #expect(files().map { $0.contains("-\(young.profile.sequence).") } == [true, true])
        #expect(try FolderListing("\(directory)/up/anonymous").folders == ["checkout"])
        #expect(try FolderListing("\(directory)/up/anonymous/checkout/2026").folders == ["01"])
        letters.stop()
    }

    @Test("A folder that was removed with its last letter is created again for the next one")
    func folderAgain() throws {
        let letters = open(maxBytes: try size())
        for _ in 0..<3 { #expect(try bury(letters, Self.letter()) == nil) }
        clock.advance(8 * Self.day)
        letters.tick(now: .at(100))
        try catchUp(letters)
        #expect(files() == [])
        #expect(try bury(letters, Self.letter()) == nil)
        #expect(files().count == 2)
        letters.stop()
    }

    @Test("Letters that somebody else removed no longer count")
    func removedByOthers() throws {
        let letters = open()
        try bury(letters, [try Self.letter(), try Self.letter(service: "kept")])
        try FileManager.default.removeItem(atPath: "\(directory)/up/anonymous/checkout")
        letters.tick(now: .at(100))
        try catchUp(letters)
        #expect((letters.count(of: "up"), letters.removed(of: "up")) == (1, 0))
        #expect(try bury(letters, Self.letter()) == nil)
        letters.stop()
    }

    // MARK: Restart

    @Test("Letters of earlier runs count, and temporary files of a killed run are removed")
    func restart() throws {
        let before = open()
        let (gone, kept) = (try Self.letter(), try Self.letter())
        try bury(before, [gone, kept])
        let bytes = before.bytes(of: "up")
        before.stop()
        let stem = "\(directory)/up/\(Self.place)"
        // No process has the number Int32.max; a writer's third number is the start time of its process.
        for writer in ["\(Int32.max)-0", "\(Int32.max)-0-123456", "\(getpid())-0-1", "\(getpid())-0"] { try temporary(Self.place, writer) }
        try Data("no metadata".utf8).write(to: URL(fileURLWithPath: "\(stem)-7.pprof"))
        try Data("of a person".utf8).write(to: URL(fileURLWithPath: "\(directory)/up/.notes.1-1.tmp"))
        let after = open()
        try catchUp(after)
        #expect((after.count(of: "up"), after.bytes(of: "up")) == (3, bytes + 11))
        let temporaries = files().filter { $0.hasSuffix(".tmp") }
        #expect(temporaries.map { $0.hasSuffix(".\(getpid())-0.tmp") || $0 == ".notes.1-1.tmp" } == [true, true])
        after.stop()
        let bounded = open(maxBytes: bytes / 2 + 11)
        try catchUp(bounded)
        #expect(bounded.count(of: "up") == 2)
        #expect(files().contains { $0.contains("-\(kept.profile.sequence).json") })
        bounded.stop()
    }

    /// Creates the temporary file of a payload that this writer has not finished.
    private func temporary(_ place: String, _ writer: String) throws {
        let path = "\(directory)/up/\(place)"
        let cut = path.index(after: try #require(path.lastIndex(of: "/")))
        try Data("half".utf8).write(to: URL(fileURLWithPath: "\(path[..<cut]).\(path[cut...])-9.pprof.\(writer).tmp"))
    }

    @Test("The age of a letter counts across a restart")
    func restartAge() throws {
        let before = open()
        let (old, young) = (try Self.letter(), try Self.letter())
        try bury(before, [old, young])
        before.stop()
        for file in files() {
            let days = file.contains("-\(old.profile.sequence).") ? 8.0 : 6.0
            let date = Date(timeIntervalSince1970: Double(Self.someTime) / 1e9 - days * 86_400)
            try FileManager.default.setAttributes([.modificationDate: date], ofItemAtPath: "\(directory)/up/\(file)")
        }
        let after = open()
        try catchUp(after)
        #expect((after.count(of: "up"), after.removed(of: "up")) == (1, 1))
        #expect(files().allSatisfy { $0.contains("-\(young.profile.sequence).") })
        after.stop()
    }

    @Test("Setting the wall clock removes no letter, and the metadata has the wall clock's time")
    func setClock() throws {
        let wall = Clock()
        let letters = DeadLetters(
            in: DataDirectory(folder.path), limits: DeadLetterConfig(maxBytes: 1 << 30),
            clocks: .init(wall: { wall.read() }, age: { [clock] in clock.read() }))
        try bury(letters, [Self.letter()])
        wall.advance(400 * Self.day)
        let late = try Self.letter()
        try bury(letters, [late])
        #expect((letters.count(of: "up"), letters.removed(of: "up")) == (2, 0))
        let text = try String(contentsOfFile: "\(directory)/up/\(Self.place)-\(late.profile.sequence).json", encoding: .utf8)
        #expect(text.contains("\"at\": \"2027-03-07T"))
        clock.advance(8 * Self.day)
        try bury(letters, [Self.letter()])
        #expect((letters.count(of: "up"), letters.removed(of: "up")) == (1, 2))
        letters.stop()
    }

    // MARK: Trouble

    @Test("Letters whose folder was away count again when it is back")
    func folderAway() throws {
        let letters = open()
        try bury(letters, [Self.letter(), Self.letter()])
        let bytes = letters.bytes(of: "up")
        let away = "\(folder.path)/away"
        try FileManager.default.moveItem(atPath: directory, toPath: away)
        letters.tick(now: .now)
        letters.stop()
        #expect((letters.count(of: "up"), letters.removed(of: "up")) == (0, 0))
        let again = open()
        _ = try bury(again, Self.letter(to: "barrier"))
        try FileManager.default.removeItem(atPath: directory)
        try FileManager.default.moveItem(atPath: away, toPath: directory)
        try bury(again, [Self.letter()])
        again.tick(now: .now)
        again.stop()
        #expect((again.count(of: "up"), files().count) == (3, 6))
        #expect(again.bytes(of: "up") == bytes / 2 * 3)
    }

    @Test("A pipe in place of a payload is an error, and is not opened for reading")
    func pipe() throws {
        let letters = open()
        let letter = try Self.letter()
        let path = try folder.folder("dead-letter") + "/up/\(Self.place)-\(letter.profile.sequence).pprof"
        let parent = URL(fileURLWithPath: path).deletingLastPathComponent().path
        try FileManager.default.createDirectory(atPath: parent, withIntermediateDirectories: true)
        try #require(mkfifo(path, 0o600) == 0)
        #expect(try bury(letters, letter)?.code == EEXIST)
        #expect((letters.count(of: "up"), letters.removed(of: "up")) == (0, 0))
        letters.stop()
    }

    @Test("A folder that cannot be written is an error, and removes no other letter")
    func unwritable() throws {
        let letters = open(maxBytes: try size())
        #expect(try bury(letters, Self.letter()) == nil)
        // Root may write where the mode forbids it, but nobody can make a folder inside a file.
        let path = try folder.file("dead-letter/up/anonymous/blocked")
        let blocked = try Self.letter(service: "blocked")
        #expect(try bury(letters, blocked)?.code == ENOTDIR)
        #expect((letters.count(of: "up"), letters.removed(of: "up")) == (1, 0))
        try FileManager.default.removeItem(atPath: path)
        #expect(try bury(letters, blocked) == nil)
        #expect(letters.removed(of: "up") == 1)
        letters.stop()
    }

    /// Moves a folder of letters elsewhere, and puts a link to it in its place.
    private func replaceByLink(_ place: String) throws -> String {
        let outside = "\(folder.path)/outside"
        try FileManager.default.moveItem(atPath: "\(directory)\(place)", toPath: outside)
        try #require(symlink(outside, "\(directory)\(place)") == 0)
        return outside
    }

    @Test("A letter is not written through a link in the place of a folder", arguments: ["", "/up", "/up/anonymous"])
    func plantedLink(place: String) throws {
        let letters = open()
        #expect(try bury(letters, Self.letter()) == nil)
        let outside = try replaceByLink(place)
        let before = FileManager.default.subpaths(atPath: outside)?.sorted()
        let error = try bury(letters, Self.letter())
        #expect(error?.code == ELOOP)
        #expect(error?.operation.contains("\(directory)\(place), which is a link") == true)
        letters.stop()
        #expect(FileManager.default.subpaths(atPath: outside)?.sorted() == before)
    }

    @Test(
        "Letters that cannot be removed are passed over, and the others keep half of the bound",
        .enabled(if: LockedFolder.isPossible, LockedFolder.reason), arguments: [(1, 2), (2, 3)])
    func locked(stuck: Int, kept: Int) throws {
        let letters = open(maxBytes: try size() * 5 / 2)
        for _ in 0..<stuck { #expect(try bury(letters, Self.letter()) == nil) }
        let locked = LockedFolder("\(directory)/up/\((Self.place as NSString).deletingLastPathComponent)")
        for _ in 0..<3 { #expect(try bury(letters, Self.letter(service: "others")) == nil) }
        #expect((letters.count(of: "up"), letters.removed(of: "up")) == (kept, 3 + stuck - kept))
        _ = consume locked
        for _ in 0..<3 { #expect(try bury(letters, Self.letter(service: "others")) == nil) }
        #expect((letters.count(of: "up"), letters.removed(of: "up")) == (2, 4 + stuck))
        #expect(files().allSatisfy { !$0.contains("checkout") })
        letters.stop()
    }

    @Test("A letter is not removed through a link in the place of its folder")
    func removalThroughLink() throws {
        let letters = open(maxBytes: try size() * 5 / 2)
        for _ in 0..<2 { #expect(try bury(letters, Self.letter()) == nil) }
        let outside = try replaceByLink("/up/anonymous/checkout")
        #expect(try bury(letters, Self.letter(service: "others")) == nil)
        letters.stop()
        #expect(FileManager.default.subpaths(atPath: outside)?.count { $0.hasSuffix(".json") } == 2)
    }

    @Test("Letters are writable for the owner and readable for the group, or have the config's modes whatever the umask is")
    func modes() throws {
        let read = { @Sendable [clock] in clock.read() }
        for (receiver, modes, wanted) in [
            ("up", ArchiveModes(), (0o640, 0o750)), ("open", Self.modes(0o666, 0o777), (0o666, 0o777)),
            ("closed", Self.modes(0o600, 0o700), (0o600, 0o700)),
        ] as [(String, ArchiveModes, (Int, Int))] {
            let limits = DeadLetterConfig(modes: modes)
            let letters = DeadLetters(in: DataDirectory(folder.path), limits: limits, clocks: .init(wall: read, age: read))
            #expect(try bury(letters, Self.letter(to: receiver)) == nil)
            letters.stop()
            let root = "\(directory)/\(receiver)"
            for path in try #require(FileManager.default.subpaths(atPath: root)) {
                let attributes = try FileManager.default.attributesOfItem(atPath: "\(root)/\(path)")
                let isFolder = attributes[.type] as? FileAttributeType == .typeDirectory
                #expect(attributes[.posixPermissions] as? Int == (isFolder ? wanted.1 : wanted.0), "\(path)")
            }
        }
    }

    /// Exact modes for files and folders.
    private static func modes(_ file: mode_t, _ directory: mode_t) -> ArchiveModes {
        var modes = ArchiveModes()
        (modes.file, modes.directory) = (FileMode(file, isExact: true), FileMode(directory, isExact: true))
        return modes
    }

    /// Whether this process may mount a small file system.
    static let canMount =
        getuid() == 0 && system("d=$(mktemp -d) && mount -t tmpfs -o size=64k t $d 2>/dev/null && umount $d && rmdir $d") == 0

    @Test("A full disk is an error and leaves no incomplete file", .enabled(if: canMount, "only root can mount a small file system"))
    func fullDisk() throws {
        let path = try folder.folder("dead-letter")
        try #require(mount("tmpfs", path, "tmpfs", 0, "size=256k") == 0)
        defer { umount2(path, Int32(MNT_DETACH)) }
        let letters = open()
        #expect(try bury(letters, Self.letter()) == nil)
        let large = try Self.letter(String(repeating: "x", count: 300_000))
        let results = try bury(letters, [large, try Self.letter(to: "other")])
        #expect(results[0]?.code == ENOSPC)
        #expect(results[1] == nil)
        #expect((files().count, letters.count(of: "up")) == (2, 1))
        letters.stop()
    }

    // MARK: Unexpected names

    @Test(
        "Files with unexpected numbers in their names are removed too", arguments: ["3", "12345678901", "9223372036854775807"])
    func oddIndex(index: String) throws {
        let letters = open()
        #expect(try bury(letters, Self.letter("first")) == nil)
        letters.stop()
        let names = ["\(Self.place)-7-\(index).pprof", "\(Self.place)-7-1.jfr", "\(Self.place)-7.json.old"]
        for name in names { try Data([1, 2]).write(to: URL(fileURLWithPath: "\(directory)/up/\(name)")) }
        let next = open(maxBytes: try size("last"))
        _ = try bury(next, Self.letter("last", receivedAt: Self.someTime + Self.day))
        defer { next.stop() }
        #expect(next.count(of: "up") == 1)
        #expect(files().count == 2 && files().allSatisfy { $0.contains("/2026/02/01/") })
    }
}
