import Glibc
import LinuxSystem
import Testing

@testable import PluginHost
@testable import Profiles
@testable import TestSupport

@Suite("Trust in a plugin's file")
struct FileTrustTests {
    /// The reason why a file is not trusted, or nil when it is.
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

    @Test("A file that only its owner may write is trusted in a private folder below a sticky one")
    func trusted() throws {
        let top = try TestFolder()
        let file = try top.file("a.so")
        #expect(try FileTrust.check(file) == file)
    }

    @Test("A file that anybody may write is refused")
    func writableFile() throws {
        let top = try TestFolder()
        let file = try top.file("a.so", mode: 0o646)
        #expect(Self.complaint(file) == "\(file) is writable by everybody")
    }

    @Test("A file that another group may write is refused", .enabled(if: geteuid() == 0, "only root may chown"))
    func foreignGroup() throws {
        let top = try TestFolder()
        let file = try top.file("a.so", mode: 0o664)
        #expect(Self.complaint(file) == nil)
        try #require(chown(file, 0, 12_345) == 0)
        #expect(Self.complaint(file) == "\(file) is writable by group 12345")
        try #require(chmod(file, 0o644) == 0)
        #expect(Self.complaint(file) == nil)
    }

    @Test("A file or folder of another user is refused", .enabled(if: geteuid() == 0, "only root may chown"))
    func foreignOwner() throws {
        let top = try TestFolder()
        let folder = try top.folder("d")
        let file = try top.file("d/a.so")
        try #require(chown(file, 12_345, 0) == 0)
        #expect(Self.complaint(file) == "\(file) belongs to user 12345")
        try #require(chown(file, 0, 0) == 0 && chown(folder, 12_345, 0) == 0)
        #expect(Self.complaint(file) == "\(folder) belongs to user 12345")
    }

    @Test("A folder that anybody may write is refused as the file's own folder and as a parent")
    func writableFolder() throws {
        let top = try TestFolder()
        let open = try top.folder("open", mode: 0o777)
        _ = try top.folder("open/inner")
        #expect(Self.complaint(try top.file("open/a.so")) == "\(open) is writable by everybody")
        #expect(Self.complaint(try top.file("open/inner/a.so")) == "\(open) is writable by everybody")
    }

    @Test("A sticky folder is accepted as a parent, but not as the file's own folder")
    func sticky() throws {
        let top = try TestFolder()
        let sticky = try top.folder("sticky", mode: 0o1777)
        _ = try top.folder("sticky/inner")
        #expect(Self.complaint(try top.file("sticky/inner/a.so")) == nil)
        #expect(Self.complaint(try top.file("sticky/a.so")) == "\(sticky) is writable by everybody")
    }

    @Test("A link is followed, and the file that it leads to is checked")
    func link() throws {
        let top = try TestFolder()
        let file = try top.file("a.so")
        #expect(try FileTrust.check(try top.link("good.so", to: file)) == file)
        let bad = try top.file("b.so", mode: 0o666)
        #expect(Self.complaint(try top.link("bad.so", to: bad)) == "\(bad) is writable by everybody")
    }

    @Test("Our own link in a sticky folder is trusted, because others cannot change it")
    func linkInStickyFolder() throws {
        let top = try TestFolder()
        let file = try top.file("a.so")
        _ = try top.folder("open", mode: 0o1777)
        #expect(try FileTrust.check(try top.link("open/l.so", to: file)) == file)
    }

    @Test("A link in a folder that others may write is refused, even when its file is trusted")
    func linkFolder() throws {
        let top = try TestFolder()
        let file = try top.file("a.so")
        let open = try top.folder("open", mode: 0o777)
        #expect(Self.complaint(try top.link("open/l.so", to: file)) == "\(open) is writable by everybody")
    }

    @Test("A link in the middle of a chain is checked like the first one")
    func linkChain() throws {
        let top = try TestFolder()
        let file = try top.file("a.so")
        let open = try top.folder("open", mode: 0o777)
        let middle = try top.link("open/m.so", to: file)
        #expect(Self.complaint(try top.link("l.so", to: middle)) == "\(open) is writable by everybody")
    }

    @Test("A folder is also checked when the next name begins with a combining accent")
    func accent() throws {
        let top = try TestFolder()
        let open = try top.folder("open", mode: 0o777)
        _ = try top.folder("open/\u{301}inner")
        #expect(Self.complaint(try top.file("open/\u{301}inner/\u{301}a.so")) == "\(open) is writable by everybody")
        let file = try top.file("\u{301}b.so")
        #expect(try FileTrust.check(file) == file)
    }

    @Test("A missing file and a link that leads nowhere cannot be read")
    func missing() throws {
        let top = try TestFolder()
        #expect(Self.complaint("\(top.path)/none.so") == "unreadable")
        #expect(Self.complaint(try top.link("dangling.so", to: "nowhere.so")) == "unreadable")
        #expect(Self.complaint(try top.link("loop.so", to: "loop.so")) == "unreadable")
    }

    // MARK: Access lists

    /// An entry of an access list: tag 1 is the owner, 2 a user, 4 the file's group, 8 a group, 16 the mask, 32 everybody.
    private struct Entry {
        let tag: UInt16
        let rights: UInt16
        var number = UInt32.max
    }

    /// Sets the access list of a file, and returns whether that succeeded.
    private static func setList(_ entries: [Entry], _ path: String) -> Bool {
        typealias Call = @convention(c) (UnsafePointer<CChar>, UnsafePointer<CChar>, UnsafeRawPointer?, Int, Int32) -> Int32
        guard let symbol = dlsym(nil, "setxattr") else { return false }
        var writer = LittleEndianWriter()
        writer.add(UInt32(2))
        for entry in entries {
            writer.add(entry.tag)
            writer.add(entry.rights)
            writer.add(entry.number)
        }
        return writer.bytes.withUnsafeBytes {
            unsafeBitCast(symbol, to: Call.self)(path, "system.posix_acl_access", $0.baseAddress, $0.count, 0) == 0
        }
    }

    /// The entries of an access list with a mask, and with a user and a group if they are given.
    private static func list(user: (UInt32, UInt16)? = nil, group: (UInt32, UInt16)? = nil, own: UInt16 = 5, mask: UInt16) -> [Entry] {
        var entries = [Entry(tag: 1, rights: 7)]
        if let user { entries.append(Entry(tag: 2, rights: user.1, number: user.0)) }
        entries.append(Entry(tag: 4, rights: own))
        if let group { entries.append(Entry(tag: 8, rights: group.1, number: group.0)) }
        return entries + [Entry(tag: 16, rights: mask), Entry(tag: 32, rights: 5)]
    }

    @Test("A user or group with write access from an access list is refused on the file, its folder and a parent")
    func accessList() throws {
        let top = try TestFolder()
        let folders = [try top.folder("a"), try top.folder("a/b")]
        let file = try top.file("a/b/c.so")
        // The file system may not support access lists.
        guard Self.setList(Self.list(user: (12_345, 4), mask: 5), file) else { return }
        #expect(Self.complaint(file) == nil)
        for path in [file] + folders {
            #expect(Self.setList(Self.list(user: (12_345, 6), mask: 7), path))
            #expect(Self.complaint(file) == "\(path) is writable by user 12345, by its access list")
            #expect(Self.setList(Self.list(group: (54_321, 2), mask: 7), path))
            #expect(Self.complaint(file) == "\(path) is writable by group 54321")
            #expect(Self.setList(Self.list(mask: 5), path))
            #expect(Self.complaint(file) == nil)
        }
    }

    @Test("Entries for root, for our own user, without write access or removed by the mask are accepted")
    func harmlessList() throws {
        let top = try TestFolder()
        let file = try top.file("c.so")
        guard Self.setList(Self.list(user: (12_345, 6), mask: 5), file) else { return }
        #expect(Self.complaint(file) == nil)
        for list in [
            Self.list(user: (0, 7), mask: 7), Self.list(user: (geteuid(), 7), mask: 7), Self.list(group: (0, 7), mask: 7),
            Self.list(user: (12_345, 5), mask: 7),
        ] {
            #expect(Self.setList(list, file))
            #expect(Self.complaint(file) == nil)
        }
    }

    @Test(
        "The group bits of a mode are the mask, and not the group's rights, if there is an access list",
        .enabled(if: geteuid() == 0, "only root may chown"))
    func maskIsNoGroup() throws {
        let top = try TestFolder()
        let file = try top.file("c.so")
        try #require(chown(file, 0, 12_345) == 0)
        guard Self.setList(Self.list(user: (0, 7), own: 5, mask: 7), file) else { return }
        #expect(Self.complaint(file) == nil)
        #expect(Self.setList(Self.list(user: (0, 7), own: 7, mask: 7), file))
        #expect(Self.complaint(file) == "\(file) is writable by group 12345")
    }
}
