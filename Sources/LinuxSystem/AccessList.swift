import CLinux
import Glibc

/// The users and groups other than the owner that may write a file or folder, from its mode and its POSIX access list (acl(5)).
public struct WriteAccess: Sendable, Equatable {
    /// Users named in the list.
    public private(set) var users: [UInt32] = []
    /// The file's own group, and groups named in the list.
    public private(set) var groups: [UInt32] = []
    /// True when the mode lets all other users write.
    public private(set) var everybody = false

    /// Reads the rights of the file at `path`; links are followed.
    ///
    /// - Throws: EINVAL when the list is malformed or has another version.
    public init(of path: String) throws(SystemError) {
        var status = stat()
        guard unsafe stat(path, &status) == 0 else { throw SystemError("stat \(path)") }
        let list = unsafe try Self.list(path) { name, room, size in unsafe CLinux.getxattr(path, name, room, size) }
        try self.init(status, list, path)
    }

    /// Reads the rights of an open file.
    ///
    /// - Parameter path: the path to name in messages.
    public init(of file: borrowing FileDescriptor, path: String) throws(SystemError) {
        let number = file.number
        let list = unsafe try Self.list(path) { name, room, size in unsafe CLinux.fgetxattr(number, name, room, size) }
        try self.init(file.status(), list, path)
    }

    private init(_ status: stat, _ list: [UInt8]?, _ path: String) throws(SystemError) {
        everybody = status.st_mode & S_IWOTH != 0
        guard let list else {
            if status.st_mode & S_IWGRP != 0 { groups = [status.st_gid] }
            return
        }
        do throws(Malformed) { try read(list, ofGroup: status.st_gid) } catch {
            throw SystemError("read the access list of \(path)", code: EINVAL)
        }
    }

    // MARK: The list

    private static let attribute = "system.posix_acl_access"
    /// A list has 4 bytes, and 8 for each entry; an extended attribute has at most 64 KiB.
    private static let largest = 1 << 16

    /// The bytes of the list; nil when there is none, or the file system does not support lists.
    private static func list(
        _ path: String, _ read: (UnsafePointer<CChar>, UnsafeMutableRawPointer?, Int) -> Int
    ) throws(SystemError) -> [UInt8]? {
        var bytes = [UInt8](repeating: 0, count: largest)
        let count = unsafe bytes.withUnsafeMutableBytes { room in unsafe read(attribute, room.baseAddress, room.count) }
        if count >= 0 { return Array(bytes[..<count]) }
        guard [ENODATA, EOPNOTSUPP, ENOSYS].contains(errno) else { throw SystemError("read the access list of \(path)") }
        return nil
    }

    private enum Tag { static let user: UInt16 = 2, ownGroup: UInt16 = 4, group: UInt16 = 8, mask: UInt16 = 16 }
    private struct Malformed: Error {}

    /// Parses the format of `linux/posix_acl_xattr.h`: a version, then entries of tag, rights, and user or group id.
    ///
    /// The mask limits the rights of named users, named groups and the file's own group.
    private mutating func read(_ list: [UInt8], ofGroup own: UInt32) throws(Malformed) {
        func number(_ offset: Int, _ size: Int) -> UInt32 {
            list[offset..<(offset + size)].reversed().reduce(0) { $0 << 8 | UInt32($1) }
        }
        guard list.count >= 4, list.count % 8 == 4, number(0, 4) == 2 else { throw Malformed() }
        let entries = stride(from: 4, to: list.count, by: 8).map { offset in
            (tag: UInt16(truncatingIfNeeded: number(offset, 2)), writes: number(offset + 2, 2) & 2 != 0, id: number(offset + 4, 4))
        }
        guard entries.first(where: { $0.tag == Tag.mask })?.writes != false else { return }
        for entry in entries where entry.writes {
            switch entry.tag {
            case Tag.user: users.append(entry.id)
            case Tag.ownGroup: groups.append(own)
            case Tag.group: groups.append(entry.id)
            default: break
            }
        }
    }
}
