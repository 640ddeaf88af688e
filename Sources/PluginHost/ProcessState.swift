import Glibc
import LinuxSystem

/// What no plugin may change: the working directory and the umask, which the delivery thread has for itself where the system allows it,
/// and how the whole process takes signals.
struct ProcessState {
    private let directory: String
    private let mask: mode_t?
    /// By signal, the handler's address.
    private let handlers: [Int32: UInt]
    /// The signals that the gateway ignores or waits for. Those of errors are not among them: language runtimes handle them too.
    private static let signals = [SIGHUP, SIGINT, SIGTERM, SIGCHLD, SIGPIPE, SIGXFSZ]

    private static let ignored = unsafe unsafeBitCast(SIG_IGN, to: UInt.self)

    /// The gateway's own state, which it never changes. Noted before the first plugin is loaded: what is read beside another plugin's
    /// `create` may be that plugin's.
    static let own: ProcessState = {
        ignoreErrorSignals()
        return ProcessState()
    }()

    /// Reads the present state, without changing it for a moment as umask(2) would.
    init() {
        let status = (try? FileDescriptor.open("/proc/thread-self/status", O_RDONLY).readAll(limit: 1 << 16)) ?? []
        let line = String(decoding: status, as: UTF8.self).split(separator: "\n").first { $0.hasPrefix("Umask:") }
        mask = line.flatMap { mode_t($0.split(separator: "\t").last ?? "", radix: 8) }
        var path = [CChar](repeating: 0, count: Int(PATH_MAX))
        handlers = Dictionary(uniqueKeysWithValues: Self.signals.map { ($0, Self.handler(of: $0)) })
        directory = unsafe getcwd(&path, path.count).map { unsafe String(cString: $0) } ?? ""
    }

    private static func handler(of number: Int32) -> UInt {
        var action = sigaction()
        _ = unsafe sigaction(number, nil, &action)
        return unsafe unsafeBitCast(action.__sigaction_handler, to: UInt.self)
    }

    /// Brings this state back.
    ///
    /// - Returns: what had been changed, as an object of "changed"; nil when nothing had.
    func restore() -> String? {
        let present = ProcessState()
        var changes: [String] = []
        if present.directory != directory {
            changes.append("the working directory to \(present.directory)")
            _ = unsafe chdir(directory)
        }
        if let mask, let other = present.mask, other != mask {
            changes.append("the umask to \(String(other, radix: 8))")
            _ = umask(mask)
        }
        let changed = Self.signals.filter { present.handlers[$0] != handlers[$0] }
        if !changed.isEmpty {
            changes.append("the handling of \(changed.map(signalName).joined(separator: ", "))")
            // The gateway has no handler for any of them.
            for number in changed { signal(number, handlers[number] == Self.ignored ? SIG_IGN : SIG_DFL) }
        }
        return changes.isEmpty ? nil : changes.joined(separator: " and ")
    }
}
