import Glibc
import LinuxSystem

/// Checks that only root and the gateway's user can change a file; code is loaded only from such files.
enum FileTrust {
    /// The number of links that Linux follows in one path.
    private static let maximumLinks = 40

    /// Checks a file, and every folder and link on its path.
    ///
    /// - Returns: the path with every link resolved.
    static func check(_ path: String) throws(PluginLibrary.LoadError) -> String {
        let file: String
        switch try follow(path) {
        case .found(let found): file = found
        case .missing: throw .unreadable(SystemError("open \(path)", code: ENOENT))
        case .closed: throw .unreadable(SystemError("open \(path)", code: EACCES))
        }
        try checkOne(file, mayBeSticky: false)
        try checkRegular(file)
        try checkOne(folder(of: file), mayBeSticky: false)
        return file
    }

    /// Checks a folder in which files are searched for, and every folder and link on its path.
    ///
    /// - Returns: whether the folder exists; if it does not, only root or the gateway's user can create it.
    static func checkFolder(_ path: String) throws(PluginLibrary.LoadError) -> Bool {
        switch try follow(path) {
        case .found(let folder):
            try checkOne(folder, mayBeSticky: false)
            return true
        case .missing(let folder), .closed(let folder):
            try checkOne(folder, mayBeSticky: false)
            return false
        }
    }

    /// Checks an open file, which cannot be exchanged between check and use.
    static func check(_ file: borrowing FileDescriptor, path: String) throws(PluginLibrary.LoadError) {
        let (access, owner): (WriteAccess, uid_t)
        do throws(SystemError) { (access, owner) = (try WriteAccess(of: file, path: path), try file.owner()) } catch {
            throw .unreadable(error)
        }
        try check(access, owner, path)
    }

    /// The result of following a path.
    private enum End {
        /// The path exists; every link is resolved.
        case found(String)
        /// A name is missing in this folder.
        case missing(in: String)
        /// A name in this folder is not accessible to this process, so it is not accessible to the loader either.
        case closed(in: String)
    }

    private static func follow(_ path: String) throws(PluginLibrary.LoadError) -> End {
        var ahead = Array(components(path.absolutePath).reversed())
        var current = ""
        var links = 0
        while let component = ahead.popLast() {
            if component == ".." {
                current = parent(of: current)
                continue
            }
            // In a sticky folder, such as /tmp, other users can add names but not remove or replace ours.
            try checkOne(current.isEmpty ? "/" : current, mayBeSticky: true)
            let next = "\(current)/\(component)"
            if let error = errorOfLooking(at: next) {
                let folder = current.isEmpty ? "/" : current
                if error == ENOENT { return .missing(in: folder) }
                if error == EACCES { return .closed(in: folder) }
            }
            guard let target = try link(next) else {
                current = next
                continue
            }
            links += 1
            guard links <= maximumLinks else { throw .unreadable(SystemError("open \(path)", code: ELOOP)) }
            if target.isAbsolutePath { current = "" }
            ahead += components(target).reversed()
        }
        return .found(current.isEmpty ? "/" : current)
    }

    private static func errorOfLooking(at path: String) -> Int32? {
        var status = stat()
        return unsafe lstat(path, &status) == 0 ? nil : errno
    }

    private static func folder(of path: String) -> String {
        let folder = parent(of: path)
        return folder.isEmpty ? "/" : folder
    }

    private static func components(_ path: String) -> [String] {
        path.pathComponents.filter { $0 != "." }
    }

    private static func parent(of path: String) -> String {
        path.utf8.lastIndex(of: UInt8(ascii: "/")).map { String(path[..<$0]) } ?? ""
    }

    /// Refuses anything but a regular file: opening a pipe or a device could block the loader, or have side effects.
    private static func checkRegular(_ path: String) throws(PluginLibrary.LoadError) {
        var status = stat()
        guard unsafe stat(path, &status) == 0 else { throw .unreadable(SystemError("stat \(path)")) }
        guard status.st_mode & S_IFMT == S_IFREG else { throw .notSharedObject(path) }
    }

    /// The target of a link, or nil when the path is not a link; the owner of a link controls where it leads, so it is checked.
    private static func link(_ path: String) throws(PluginLibrary.LoadError) -> String? {
        var status = stat()
        guard unsafe lstat(path, &status) == 0 else { throw .unreadable(SystemError("open \(path)")) }
        guard status.st_mode & S_IFMT == S_IFLNK else { return nil }
        guard isOurs(status.st_uid) else { throw .untrusted(path: path, why: "is a link of user \(status.st_uid)") }
        var target = [CChar](repeating: 0, count: Int(PATH_MAX))
        let count = unsafe readlink(path, &target, target.count)
        guard count >= 0 else { throw .unreadable(SystemError("read the link \(path)")) }
        return String(decoding: target[..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    private static func isOurs(_ user: uid_t) -> Bool { user == 0 || user == geteuid() }

    private static func checkOne(_ path: String, mayBeSticky: Bool) throws(PluginLibrary.LoadError) {
        var status = stat()
        guard unsafe stat(path, &status) == 0 else { throw .unreadable(SystemError("stat \(path)")) }
        let access: WriteAccess
        do throws(SystemError) { access = try WriteAccess(of: path) } catch { throw .unreadable(error) }
        let isSticky = mayBeSticky && status.st_mode & S_ISVTX != 0
        try check(isSticky ? nil : access, status.st_uid, path)
    }

    /// - Parameter access: nil when write access need not be checked.
    private static func check(_ access: WriteAccess?, _ owner: uid_t, _ path: String) throws(PluginLibrary.LoadError) {
        guard isOurs(owner) else { throw .untrusted(path: path, why: "belongs to user \(owner)") }
        guard let access else { return }
        if access.everybody { throw .untrusted(path: path, why: "is writable by everybody") }
        if let user = access.users.first(where: { !isOurs($0) }) {
            throw .untrusted(path: path, why: "is writable by user \(user), by its access list")
        }
        if let group = access.groups.first(where: { $0 != 0 && $0 != getegid() }) {
            throw .untrusted(path: path, why: "is writable by group \(group)")
        }
    }
}
