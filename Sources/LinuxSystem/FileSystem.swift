import CLinux
import Glibc

extension FileDescriptor {
    /// Syncs the whole file system that the file is on (`syncfs`).
    func synchronizeFileSystem() throws(SystemError) {
        guard CLinux.syncfs(number) == 0 else { throw SystemError("syncfs") }
    }
}
