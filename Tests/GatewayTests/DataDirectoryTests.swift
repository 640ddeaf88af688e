import Foundation
import LinuxSystem
import Testing

@testable import Receivers
@testable import SpoolStore
@testable import TestSupport

@Suite("A data directory that is away")
struct DataDirectoryTests {
    private static var up: ReceiverConfig { SpoolFixture.receiver("up") }

    private func rename(_ from: String, _ to: String) throws { try FileManager.default.moveItem(atPath: from, toPath: to) }

    @Test(
        "Profiles are refused and nothing is created while the directory is away, and all goes on when it is back",
        arguments: [false, true])
    func away(isReplaced: Bool) throws {
        let spool = try SpoolFixture(Self.up)
        try spool.submit(3, body: 10_000)
        try rename(spool.folder, spool.folder + "-away")
        defer { try? FileManager.default.removeItem(atPath: spool.folder + "-away") }
        if isReplaced { try FileManager.default.createDirectory(atPath: spool.folder + "/spool", withIntermediateDirectories: true) }
        #expect(try spool.submit(2).contains(.refused(.away)))
        #expect(spool.receivers[0].state.withLock { $0.health.0 } == .failed)
        #expect(FileManager.default.enumerator(atPath: spool.folder)?.allObjects.count ?? 0 == (isReplaced ? 1 : 0))
        // The open folders still lead to the original directory.
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

    @Test("The spool's folder may be away without the directory")
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

    @Test("Another folder with the same lock file becomes the directory, and open files of the former one are left")
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

    @Test("A copy of the directory is refused while the original can be read")
    func copy() throws {
        let spool = try SpoolFixture(Self.up)
        try rename(spool.folder, spool.folder + "-former")
        defer { try? FileManager.default.removeItem(atPath: spool.folder + "-former") }
        try FileManager.default.copyItem(atPath: spool.folder + "-former", toPath: spool.folder)
        #expect(try spool.submit(1).contains(.refused(.away)))
        #expect(spool.spool?.failure?.contains("another folder") == true)
    }

    @Test("A folder is created with its parents, and a file in its place is an error")
    func make() throws {
        let folder = try TestFolder()
        for _ in 0..<2 { try OpenFolder.make("\(folder.path)/a/b/c") }
        #expect(try FolderListing("\(folder.path)/a/b").folders == ["c"])
        _ = try folder.file("file")
        #expect(throws: SystemError.self) { try OpenFolder.make("\(folder.path)/file/x") }
        #expect { try OpenFolder.make("\(folder.path)/file") } throws: { ($0 as? SystemError)?.code == ENOTDIR }
    }

    @Test("A path below an open folder follows no link and does not lead up", arguments: ["link", "a/link", "link/b", "a/link/b"])
    func noLinks(path: String) throws {
        let folder = try TestFolder()
        try FileManager.default.createDirectory(atPath: "\(folder.path)/in/a", withIntermediateDirectories: true)
        try FileManager.default.createDirectory(atPath: "\(folder.path)/out/b", withIntermediateDirectories: true)
        for link in ["link", "a/link"] { _ = try folder.link("in/\(link)", to: "\(folder.path)/out") }
        // The folder's own path may lead through links.
        let root = try OpenFolder(try folder.link("root", to: "\(folder.path)/in"))
        #expect(try root.descend("a").names() == ["link"])
        #expect { try root.descend(path) } throws: { error in
            let error = error as? SystemError
            return error?.code == ELOOP && error?.operation.contains("/link, which is a link") == true
        }
        #expect { try root.make("\(path)/made", mode: FileMode(0o700)) } throws: { ($0 as? SystemError)?.code == ELOOP }
        for up in ["..", "a/../..", "../out", "."] {
            #expect { try root.descend(up) } throws: { ($0 as? SystemError)?.code == EINVAL }
        }
        #expect(try FolderListing("\(folder.path)/out").folders == ["b"])
    }

    @Test("An open folder stays in use when its path leads elsewhere")
    func swapped() throws {
        let folder = try TestFolder()
        let opened = try OpenFolder(folder.path).make("a/b", mode: FileMode(0o750))
        let victim = try folder.folder("victim")
        _ = try folder.file("victim/file", "theirs")
        _ = try folder.file("a/b/file", "ours")
        try rename("\(folder.path)/a/b", "\(folder.path)/moved")
        _ = try folder.link("a/b", to: victim)
        try opened.remove("file")
        #expect(try FolderListing(victim).files == ["file"])
        #expect(try FolderListing("\(folder.path)/moved").files.isEmpty)
    }

    @Test("A spool folder that is a link is refused with its path in the error")
    func linkedSpool() throws {
        let folder = try TestFolder()
        _ = try folder.link("spool", to: try folder.folder("elsewhere"))
        #expect { try DataDirectory(folder.path).make() } throws: { error in
            let error = error as? SystemError
            return error?.code == ELOOP && error?.operation.contains("\(folder.path)/spool") == true
        }
        #expect(try FolderListing("\(folder.path)/elsewhere").files.isEmpty)
    }

    @Test("An exact mode ignores the umask, and keeps a set-group-ID bit")
    func exactMode() throws {
        let folder = try TestFolder()
        try #require(chmod(folder.path, 0o2755) == 0)
        let root = try OpenFolder(folder.path)
        _ = try root.make("a/b", mode: FileMode(0o777, isExact: true))
        var status = stat()
        for name in ["a", "a/b"] {
            try #require(stat("\(folder.path)/\(name)", &status) == 0)
            #expect(status.st_mode & 0o7777 == 0o2777)
        }
    }

    @Test("Only a regular file is opened, and a pipe does not block")
    func openFile() throws {
        let folder = try TestFolder()
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
