import Glibc
import LinuxSystem

/// Whether only root and the gateway's user can decide what a file holds: code is loaded from nowhere else.
enum FileTrust {
    /// As many links as Linux follows in one path.
    private static let maximumLinks = 40

    /// Checks a file, and every folder and link that its path leads through.
    ///
    /// - Returns: the path with every link resolved.
    static func check(_ path: String) throws(PluginLibrary.LoadError) -> String {
        var ahead = Array(components(path.hasPrefix("/") ? path : "\(workingDirectory)/\(path)").reversed())
        var current = ""
        var links = 0
        while let component = ahead.popLast() {
            if component == ".." {
                current = parent(of: current)
                continue
            }
            // In a sticky folder, such as /tmp, others can add names but not take ours away.
            try checkOne(current.isEmpty ? "/" : current, mayBeSticky: true)
            let next = "\(current)/\(component)"
            guard let target = try link(next) else {
                current = next
                continue
            }
            links += 1
            guard links <= maximumLinks else { throw .unreadable(SystemError("open \(path)", code: ELOOP)) }
            if target.hasPrefix("/") { current = "" }
            ahead += components(target).reversed()
        }
        try checkOne(current, mayBeSticky: false)
        try checkRegular(current)
        let folder = parent(of: current)
        try checkOne(folder.isEmpty ? "/" : folder, mayBeSticky: false)
        return current
    }

    private static func components(_ path: String) -> [String] {
        path.split(separator: "/").filter { $0 != "." }.map(String.init)
    }

    private static func parent(of path: String) -> String {
        path.lastIndex(of: "/").map { String(path[..<$0]) } ?? ""
    }

    /// A pipe or a device would make the loader wait, or worse.
    private static func checkRegular(_ path: String) throws(PluginLibrary.LoadError) {
        var status = stat()
        guard unsafe stat(path, &status) == 0 else { throw .unreadable(SystemError("stat \(path)")) }
        guard status.st_mode & S_IFMT == S_IFREG else { throw .notSharedObject(path) }
    }

    /// Where a link leads, or nil when it is none; whoever owns a link decides that.
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

    private static var workingDirectory: String {
        guard let path = unsafe getcwd(nil, 0) else { return "." }
        defer { unsafe free(path) }
        return unsafe String(cString: path)
    }

    private static func isOurs(_ user: uid_t) -> Bool { user == 0 || user == geteuid() }

    private static func checkOne(_ path: String, mayBeSticky: Bool) throws(PluginLibrary.LoadError) {
        var status = stat()
        guard unsafe stat(path, &status) == 0 else { throw .unreadable(SystemError("stat \(path)")) }
        guard isOurs(status.st_uid) else {
            throw .untrusted(path: path, why: "belongs to user \(status.st_uid)")
        }
        if mayBeSticky, status.st_mode & S_ISVTX != 0 { return }
        if status.st_mode & S_IWOTH != 0 { throw .untrusted(path: path, why: "is writable by everybody") }
        if status.st_mode & S_IWGRP != 0, status.st_gid != 0, status.st_gid != getegid() {
            throw .untrusted(path: path, why: "is writable by group \(status.st_gid)")
        }
    }
}
