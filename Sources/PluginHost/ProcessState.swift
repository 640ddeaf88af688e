import Glibc
import LinuxSystem

/// What belongs to the whole process, and no plugin may change: the working directory and the umask.
struct ProcessState: Equatable {
    private let directory: String
    private let mask: mode_t?

    /// The gateway's own state, which it never changes. Noted before the first `create`: what is read beside another plugin's
    /// `create` may be that plugin's.
    static let own = ProcessState()

    /// Reads the present state, without changing it for a moment as umask(2) would.
    init() {
        let status = (try? FileDescriptor.open("/proc/self/status", O_RDONLY).readAll(limit: 1 << 16)) ?? []
        let line = String(decoding: status, as: UTF8.self).split(separator: "\n").first { $0.hasPrefix("Umask:") }
        mask = line.flatMap { mode_t($0.split(separator: "\t").last ?? "", radix: 8) }
        var path = [CChar](repeating: 0, count: Int(PATH_MAX))
        directory = unsafe getcwd(&path, path.count).map { unsafe String(cString: $0) } ?? ""
    }

    /// Brings this state back.
    ///
    /// - Returns: what had been changed, as a part of a sentence; nil when nothing had.
    func restore() -> String? {
        let present = ProcessState()
        guard present != self else { return nil }
        var changes: [String] = []
        if present.directory != directory {
            changes.append("the working directory to \(present.directory)")
            _ = unsafe chdir(directory)
        }
        if let mask, present.mask != mask {
            changes.append("the umask to \(String(present.mask ?? 0, radix: 8))")
            _ = umask(mask)
        }
        return "create changed \(changes.joined(separator: " and "))"
    }
}
