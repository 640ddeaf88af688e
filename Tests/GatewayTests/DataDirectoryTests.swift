import Foundation
import LinuxSystem
import Testing

@testable import Gateway

@Suite("A data directory that is away")
struct DataDirectoryTests {
    private static var up: ReceiverConfig { SpoolFixture.receiver("up") }

    private func rename(_ from: String, _ to: String) throws { try FileManager.default.moveItem(atPath: from, toPath: to) }

    @Test("While it is elsewhere nobody's profiles are taken, nothing is made, and all goes on when it is back", arguments: [false, true])
    func away(isReplaced: Bool) throws {
        let spool = try SpoolFixture(Self.up)
        try spool.submit(3, body: 10_000)
        try rename(spool.folder, spool.folder + "-away")
        defer { try? FileManager.default.removeItem(atPath: spool.folder + "-away") }
        if isReplaced { try FileManager.default.createDirectory(atPath: spool.folder + "/spool", withIntermediateDirectories: true) }
        #expect(try spool.submit(2).contains(.refused(.away)))
        #expect(spool.receivers[0].state.withLock { $0.health.0 } == .failed)
        #expect(FileManager.default.enumerator(atPath: spool.folder)?.allObjects.count ?? 0 == (isReplaced ? 1 : 0))
        // What is open is still the one that was opened.
        let opened = try spool.open()
        #expect(opened.count == 3)
        try? FileManager.default.removeItem(atPath: spool.folder)
        try rename(spool.folder + "-away", spool.folder)
        #expect(try spool.submit(1) == [.accepted])
        #expect(spool.receivers[0].state.withLock { $0.health.0 } == .ok)
        spool.settle(opened)
        #expect(try spool.deliverAll().count == 1)
        #expect(spool.account().dropped == [:] && spool.isBalanced())
    }

    @Test("The spool alone may be away as well")
    func spoolAway() throws {
        let spool = try SpoolFixture(Self.up)
        try spool.submit(1)
        try rename(spool.folder + "/spool", spool.folder + "/elsewhere")
        #expect(try spool.submit(1).contains(.refused(.away)))
        try FileManager.default.createDirectory(atPath: spool.folder + "/spool", withIntermediateDirectories: true)
        #expect(try spool.submit(1).contains(.refused(.away)))
        #expect(spool.files.isEmpty)
        try FileManager.default.removeItem(atPath: spool.folder + "/spool")
        try rename(spool.folder + "/elsewhere", spool.folder + "/spool")
        #expect(try spool.submit(1) == [.accepted])
        #expect(try spool.deliverAll().count == 2)
    }

    @Test("Another folder that holds the lock is taken, and what is open in the former one is left")
    func takenAgain() throws {
        let spool = try SpoolFixture(Self.up)
        try spool.submit(2)
        let former = spool.folder + "-former"
        try rename(spool.folder, former)
        defer { try? FileManager.default.removeItem(atPath: former) }
        try FileManager.default.createDirectory(atPath: spool.folder, withIntermediateDirectories: true)
        try FileManager.default.linkItem(atPath: former + "/lock", toPath: spool.folder + "/lock")
        try FileManager.default.copyItem(atPath: former + "/spool", toPath: spool.folder + "/spool")
        #expect(try spool.submit(2) == [.accepted, .accepted])
        #expect(spool.segments.count == 2)
        #expect(try spool.deliverAll().count == 4)
    }

    @Test("A copy is not taken while the one that was copied answers, whatever is in it")
    func copy() throws {
        let spool = try SpoolFixture(Self.up)
        try rename(spool.folder, spool.folder + "-former")
        defer { try? FileManager.default.removeItem(atPath: spool.folder + "-former") }
        try FileManager.default.copyItem(atPath: spool.folder + "-former", toPath: spool.folder)
        #expect(try spool.submit(1).contains(.refused(.away)))
        #expect(spool.spool?.failure?.contains("another folder") == true)
    }

    @Test("A folder is made with its parents, and a file in its way is an error")
    func make() throws {
        let folder = try TemporaryFolder()
        for _ in 0..<2 { try OpenFolder.make("\(folder.path)/a/b/c") }
        #expect(try FolderListing("\(folder.path)/a/b").folders == ["c"])
        _ = try folder.file("file")
        #expect(throws: SystemError.self) { try OpenFolder.make("\(folder.path)/file/x") }
        #expect { try OpenFolder.make("\(folder.path)/file") } throws: { ($0 as? SystemError)?.code == ENOTDIR }
    }

    @Test("Only a regular file is opened as one, and nothing is waited for")
    func openFile() throws {
        let folder = try TemporaryFolder()
        try #require(mkfifo("\(folder.path)/pipe", 0o600) == 0)
        _ = try folder.link("link", to: try folder.file("file", "text"))
        for name in ["pipe", "link", ".", "none"] {
            for flags in [O_RDONLY, O_RDWR] {
                #expect(throws: SystemError.self) { _ = try FileDescriptor.openFile("\(folder.path)/\(name)", flags).number }
            }
        }
        #expect(try FileDescriptor.openFile("\(folder.path)/file", O_RDONLY).size() == 4)
    }
}
