import Foundation
import LinuxSystem
import ProfileArchive
import Testing

@testable import TestSupport

@Suite("The index of an archive")
struct ArchiveIndexTests {
    private static let heading = "gateway-archive-index 1\n"

    @Test("An index that is written is read back unchanged")
    func again() throws {
        var index = ArchiveIndex()
        index.add("20260131T23", files: 2, bytes: 4711)
        index.add("20260201T00", files: 4, bytes: 5)
        index.add("20260131T23", files: 2, bytes: 1)
        index.changing = ["20260201T00", "20260201T01"]
        #expect(
            index.text == Self.heading + "20260131T23 4 4712\n20260201T00 4 5 changing\n20260201T01 0 0 changing\nend 3\n")
        let read = try #require(ArchiveIndex(index.text))
        #expect((read.total, read.oldest, read.changing) == (.init(files: 8, bytes: 4717), "20260131T23", index.changing))
        let folder = try TestFolder()
        let root = try OpenFolder(folder.path)
        #expect(try ArchiveIndex.read(from: root) == nil)
        for _ in 0..<2 { try index.write(to: root, mode: FileMode(0o640)) }
        #expect(try ArchiveIndex.read(from: root) == read)
        #expect(try root.names() == [ArchiveIndex.name])
    }

    @Test("Counts never become negative, and the total follows them")
    func never() {
        var index = ArchiveIndex()
        index.add("20260131T23", files: 2, bytes: 10)
        index.add("20260201T00", files: 1, bytes: 1)
        index.add("20260131T23", files: -3, bytes: -11)
        #expect((index.hours["20260131T23"], index.total) == (.init(), .init(files: 1, bytes: 1)))
        index.set("20260201T00", nil)
        index.set("20260131T23", nil)
        #expect((index.total, index.oldest) == (.init(), nil))
    }

    @Test("Numbers are accepted up to the largest that an hour may have")
    func largest() throws {
        let most = 1 << 42
        #expect(ArchiveIndex(Self.heading + "20260131T23 \(most) \(most)\nend 1\n")?.total == .init(files: most, bytes: most))
        #expect(ArchiveIndex(Self.heading + "20260131T23 1 \(most + 1)\nend 1\n") == nil)
        #expect(ArchiveIndex(Self.heading + "20260131T23 \(most + 1) 1\nend 1\n") == nil)
    }

    @Test("The sum of all hours is accepted up to the largest that an archive may have", arguments: [(0, true), (1, false)])
    func largestSum(more: Int, isTaken: Bool) throws {
        // The largest archive has as many files and bytes as 256 of the largest hours.
        let hours = (10_000_000..<10_000_256).map { "\($0)T00 1 \(1 << 42)\n" }.joined()
        let last = "20260131T23 1 \(more)\n"
        #expect((ArchiveIndex(Self.heading + hours + last + "end 257\n") != nil) == isTaken)
    }

    @Test(
        "A damaged index is refused without a crash",
        arguments: [
            "", "\n", "gateway-archive-index 1\n", "gateway-archive-index 2\nend 0\n", "gateway-archive-index 1\nend 0",
            "gateway-archive-index 1\nend 1\n", heading + "20260131T23 1 1\nend 2\n", heading + "20260131T23 1 1\n",
            heading + "20260131T23 1\nend 1\n", heading + "20260131T23 1 -1\nend 1\n", heading + "20260131T23 -1 1\nend 1\n",
            heading + "20260131T23 9223372036854775807 1\nend 1\n", heading + "20260131T23 1 9223372036854775808\nend 1\n",
            heading + "20260131T23 1 4398046511105\nend 1\n", heading + "20260131T23 1 1 changed\nend 1\n",
            heading + "20260131T23 1 1 changing x\nend 1\n", heading + "../../../etc 1 1\nend 1\n", heading + "2026013123 1 1\nend 1\n",
            heading + "20260131T2 1 1\nend 1\n", heading + "20260131T23 1 1\n20260131T23 1 1\nend 2\n", heading + "20260131T23  1\nend 1\n",
        ])
    func damaged(text: String) { #expect(ArchiveIndex(text) == nil) }

    @Test("A link or a pipe in place of the index is ignored, and a link is not followed")
    func special() throws {
        let folder = try TestFolder()
        let root = try OpenFolder(folder.path)
        let target = try folder.file("target", Self.heading + "end 0\n")
        let link = try folder.link(ArchiveIndex.name, to: target)
        _ = try folder.link(ArchiveIndex.name + ".tmp", to: target)
        #expect(try ArchiveIndex.read(from: root) == nil)
        var index = ArchiveIndex()
        index.add("20260131T23", files: 1, bytes: 1)
        try index.write(to: root, mode: FileMode(0o640))
        #expect(try String(contentsOfFile: target, encoding: .utf8) == Self.heading + "end 0\n")
        try FileManager.default.removeItem(atPath: link)
        try #require(mkfifo(link, 0o600) == 0)
        #expect(try ArchiveIndex.read(from: root) == nil)
    }

    @Test("An hour and its folder are found from each other")
    func folders() {
        #expect(ArchivedFiles.folder(ofHour: "20260131T23") == "2026/01/31/23")
        #expect(ArchivedFiles.hour(ofFolder: "t/app/2026/01/31/23") == "20260131T23")
        for other in [
            "", "t/app", "t/app/2026/01/31", "t/app/2026/01/31/23/x", "t/app/2026/1/31/233", "t/app/2026/01/3x/23", "app/2026/01/31/23",
        ] {
            #expect(ArchivedFiles.hour(ofFolder: other) == nil)
        }
        #expect(ArchivedFiles.hour(-1) == "19691231T23")
        #expect(ArchivedName("20260131T235959.123456789Z-7.json")?.hour == "20260131T23")
    }
}
