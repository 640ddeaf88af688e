import Glibc
import LinuxSystem

/// Whether only root and the gateway's user can decide what a file holds: code is loaded from nowhere else.
enum FileTrust {
    /// Checks a file, its folder and all parents, both as named and with every link resolved.
    ///
    /// - Returns: the path with every link resolved.
    static func check(_ path: String) throws(PluginLibrary.LoadError) -> String {
        let named = path.hasPrefix("/") ? path : "\(workingDirectory)/\(path)"
        guard let resolved = unsafe realpath(named, nil) else { throw .unreadable(SystemError("open \(path)")) }
        defer { unsafe free(resolved) }
        let real = unsafe String(cString: resolved)
        try checkChain(real)
        // A link in a folder of somebody else's could be turned to another file tomorrow.
        if real != named { try checkFolders(of: named) }
        return real
    }

    private static var workingDirectory: String {
        guard let path = unsafe getcwd(nil, 0) else { return "." }
        defer { unsafe free(path) }
        return unsafe String(cString: path)
    }

    private static func checkChain(_ path: String) throws(PluginLibrary.LoadError) {
        try checkOne(path, mayBeSticky: false)
        try checkFolders(of: path)
    }

    private static func checkFolders(of path: String) throws(PluginLibrary.LoadError) {
        var folder = path[...]
        var isDirectFolder = true
        while let slash = folder.lastIndex(of: "/") {
            folder = folder[..<slash]
            // In a sticky folder, such as /tmp, others can add names but not take ours away.
            try checkOne(folder.isEmpty ? "/" : String(folder), mayBeSticky: !isDirectFolder)
            isDirectFolder = false
        }
    }

    private static func checkOne(_ path: String, mayBeSticky: Bool) throws(PluginLibrary.LoadError) {
        var status = stat()
        guard unsafe stat(path, &status) == 0 else { throw .unreadable(SystemError("stat \(path)")) }
        guard status.st_uid == 0 || status.st_uid == geteuid() else {
            throw .untrusted(path: path, why: "belongs to user \(status.st_uid)")
        }
        if mayBeSticky, status.st_mode & S_ISVTX != 0 { return }
        if status.st_mode & S_IWOTH != 0 { throw .untrusted(path: path, why: "is writable by everybody") }
        if status.st_mode & S_IWGRP != 0, status.st_gid != 0, status.st_gid != getegid() {
            throw .untrusted(path: path, why: "is writable by group \(status.st_gid)")
        }
    }
}
