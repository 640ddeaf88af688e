import CLinux
import Glibc

extension FileDescriptor {
    /// Makes all of the file system durable that the file is in (`syncfs`).
    func synchronizeFileSystem() throws(SystemError) {
        guard CLinux.syncfs(number) == 0 else { throw SystemError("syncfs") }
    }
}
