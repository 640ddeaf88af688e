import CProcessStart
import Glibc

/// The arguments and executable of the process.
enum ProcessStart {
    /// The command line's words after the program's name.
    static let arguments: [String] = (1..<max(1, process_start_count())).compactMap { index in
        unsafe process_start_word(index).map { unsafe String(cString: $0) }
    }

    /// The folder of the executable, links resolved; relative paths are resolved against the working directory at first use.
    static let executableFolder: String = {
        // Without /proc, the path that was passed to the kernel is used.
        let candidates = ["/proc/self/exe", unsafe process_start_path().map { unsafe String(cString: $0) }].compactMap(\.self)
        let path = candidates.lazy.compactMap(resolved).first ?? ""
        return path.lastIndex(of: "/").map { String(path[..<$0]) } ?? "."
    }()

    private static func resolved(_ path: String) -> String? {
        guard let resolved = unsafe realpath(path, nil) else { return nil }
        defer { unsafe free(resolved) }
        return unsafe String(cString: resolved)
    }
}
