import Foundation
import Glibc
import Testing

/// A folder in which nothing can be made or removed, not even by root, until this is released.
final class LockedFolder {
    private let path: String

    /// Whether this user can lock a folder: root needs a file system that knows immutable files.
    static let isPossible: Bool = {
        guard let folder = try? TestFolder(), let file = try? folder.write("file", "") else { return false }
        // The folder can be removed only when it is not locked any more.
        return withExtendedLifetime(folder) {
            let locked = LockedFolder(folder.path)
            return withExtendedLifetime(locked) { unlink(file) != 0 }
        }
    }()
    static let reason: Comment = "this user can remove files of any folder here"

    init(_ path: String) {
        self.path = path
        if getuid() == 0 { _ = system("chattr +i '\(path)' 2>/dev/null") } else { chmod(path, 0o555) }
    }

    deinit { if getuid() == 0 { _ = system("chattr -i '\(path)' 2>/dev/null") } else { chmod(path, 0o755) } }
}
