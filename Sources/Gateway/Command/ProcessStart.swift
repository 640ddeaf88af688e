import CProcessStart
import Glibc

/// What the process was started with.
enum ProcessStart {
    /// The words of the command line behind the program's name.
    static let arguments: [String] = (1..<max(1, process_start_count())).compactMap { index in
        unsafe process_start_word(index).map { unsafe String(cString: $0) }
    }

    /// The folder that the executable is in, links resolved; relative paths were those of the folder the process was started in.
    static let executableFolder: String = {
        // Without /proc there is still what the kernel was asked to run.
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
