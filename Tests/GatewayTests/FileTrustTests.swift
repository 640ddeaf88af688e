import Glibc
import Testing

@testable import Gateway

@Suite("Trust in a plugin's file")
struct FileTrustTests {
    /// What is wrong with a file, or nil when it is trusted.
    private static func complaint(_ path: String) -> String? {
        do throws(PluginLibrary.LoadError) {
            _ = try FileTrust.check(path)
            return nil
        } catch {
            switch error {
            case .untrusted(let path, let why): return "\(path) \(why)"
            case .unreadable: return "unreadable"
            default: return "\(error)"
            }
        }
    }

    @Test("A file that only its owner may write is trusted, in a folder of its own below a sticky one")
    func trusted() throws {
        let top = try TemporaryFolder()
        let file = try top.file("a.so")
        #expect(try FileTrust.check(file) == file)
    }

    @Test("A file that anybody may write is not")
    func writableFile() throws {
        let top = try TemporaryFolder()
        let file = try top.file("a.so", mode: 0o646)
        #expect(Self.complaint(file) == "\(file) is writable by everybody")
    }

    @Test("A group's right to write is refused for a group of others", .enabled(if: geteuid() == 0, "only root may chown"))
    func foreignGroup() throws {
        let top = try TemporaryFolder()
        let file = try top.file("a.so", mode: 0o664)
        #expect(Self.complaint(file) == nil)
        try #require(chown(file, 0, 12_345) == 0)
        #expect(Self.complaint(file) == "\(file) is writable by group 12345")
        try #require(chmod(file, 0o644) == 0)
        #expect(Self.complaint(file) == nil)
    }

    @Test("A file or folder of another user is refused", .enabled(if: geteuid() == 0, "only root may chown"))
    func foreignOwner() throws {
        let top = try TemporaryFolder()
        let folder = try top.folder("d")
        let file = try top.file("d/a.so")
        try #require(chown(file, 12_345, 0) == 0)
        #expect(Self.complaint(file) == "\(file) belongs to user 12345")
        try #require(chown(file, 0, 0) == 0 && chown(folder, 12_345, 0) == 0)
        #expect(Self.complaint(file) == "\(folder) belongs to user 12345")
    }

    @Test("A folder that anybody may write is refused, as the file's own and as a parent")
    func writableFolder() throws {
        let top = try TemporaryFolder()
        let open = try top.folder("open", mode: 0o777)
        _ = try top.folder("open/inner")
        #expect(Self.complaint(try top.file("open/a.so")) == "\(open) is writable by everybody")
        #expect(Self.complaint(try top.file("open/inner/a.so")) == "\(open) is writable by everybody")
    }

    @Test("A sticky folder passes as a parent, and not as the file's own folder")
    func sticky() throws {
        let top = try TemporaryFolder()
        let sticky = try top.folder("sticky", mode: 0o1777)
        _ = try top.folder("sticky/inner")
        #expect(Self.complaint(try top.file("sticky/inner/a.so")) == nil)
        #expect(Self.complaint(try top.file("sticky/a.so")) == "\(sticky) is writable by everybody")
    }

    @Test("A link is followed, and the file it leads to is what counts")
    func link() throws {
        let top = try TemporaryFolder()
        let file = try top.file("a.so")
        #expect(try FileTrust.check(try top.link("good.so", to: file)) == file)
        let bad = try top.file("b.so", mode: 0o666)
        #expect(Self.complaint(try top.link("bad.so", to: bad)) == "\(bad) is writable by everybody")
    }

    @Test("Our own link in a sticky folder cannot be turned by others")
    func linkInStickyFolder() throws {
        let top = try TemporaryFolder()
        let file = try top.file("a.so")
        _ = try top.folder("open", mode: 0o1777)
        #expect(try FileTrust.check(try top.link("open/l.so", to: file)) == file)
    }

    @Test("A link in a folder that others may write is refused, however good its file is")
    func linkFolder() throws {
        let top = try TemporaryFolder()
        let file = try top.file("a.so")
        let open = try top.folder("open", mode: 0o777)
        #expect(Self.complaint(try top.link("open/l.so", to: file)) == "\(open) is writable by everybody")
    }

    @Test("A link in the middle of a chain counts as the first one does")
    func linkChain() throws {
        let top = try TemporaryFolder()
        let file = try top.file("a.so")
        let open = try top.folder("open", mode: 0o777)
        let middle = try top.link("open/m.so", to: file)
        #expect(Self.complaint(try top.link("l.so", to: middle)) == "\(open) is writable by everybody")
    }

    @Test("A file that is not there, or leads nowhere, cannot be read")
    func missing() throws {
        let top = try TemporaryFolder()
        #expect(Self.complaint("\(top.path)/none.so") == "unreadable")
        #expect(Self.complaint(try top.link("dangling.so", to: "nowhere.so")) == "unreadable")
        #expect(Self.complaint(try top.link("loop.so", to: "loop.so")) == "unreadable")
    }
}
