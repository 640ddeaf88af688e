import Foundation
import Testing

@testable import LinuxSystem

@Suite("Acting as the owner of a folder")
struct OwnerTests {
    @Test("Root acts as the owner without any of root's own groups", .enabled(if: geteuid() == 0))
    func groups() async throws {
        await #expect(processExitsWith: .success) {
            let path = FileManager.default.temporaryDirectory.appendingPathComponent("owner-\(getpid())").path
            try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: false)
            defer { rmdir(path) }
            chown(path, 65_534, 65_533)
            let groups: [gid_t] = [0, 4]
            precondition(setgroups(groups.count, groups) == 0)
            try OpenFolder(path).actAsOwner()
            precondition((geteuid(), getegid()) == (65_534, 65_533))
            precondition(getgroups(0, nil) == 0, "a group of root's is left")
            // Root removes the folder at the end.
            seteuid(0)
        }
    }
}
