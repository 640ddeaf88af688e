import Glibc
import LinuxSystem

/// The state of a process that a plugin could change, as it was at one time.
struct ProcessPicture {
    private let environment: Set<String>
    private let directory: String
    private let mask: mode_t
    private let locale: String
    /// By signal, the handler's address.
    private let handlers: [Int32: UInt]
    private let descriptors: Int
    private let threads: Int

    init() {
        environment = Set(environmentVariables)
        directory = ".".absolutePath
        mask = umask(0)
        umask(mask)
        locale = unsafe setlocale(LC_ALL, nil).map { unsafe String(cString: $0) } ?? ""
        handlers = Dictionary(
            uniqueKeysWithValues: (1...31 as ClosedRange<Int32>).map { number in
                var action = sigaction()
                _ = unsafe sigaction(number, nil, &action)
                return unsafe (number, unsafeBitCast(action.__sigaction_handler, to: UInt.self))
            })
        descriptors = (0..<Int32(min(descriptorLimit, 65_536))).count { fcntl($0, F_GETFD) >= 0 }
        threads = Self.threadCount
    }

    private static var threadCount: Int {
        let status = (try? FileDescriptor.open("/proc/self/status", O_RDONLY).readAll(limit: 1 << 16)) ?? []
        let line = String(decoding: status, as: UTF8.self).split(separator: "\n").first { $0.hasPrefix("Threads:") }
        return line.flatMap { $0.split(separator: "\t").last }.flatMap { Int($0) } ?? 0
    }

    /// What is not to change and has, each as a part of a sentence.
    func changes(since before: ProcessPicture) -> [String] {
        var changes: [String] = []
        let names = environment.symmetricDifference(before.environment).compactMap { $0.split(separator: "=").first.map(String.init) }
        if !names.isEmpty { changes.append("environment \(Set(names).sorted().joined(separator: " "))") }
        if directory != before.directory { changes.append("working directory") }
        if mask != before.mask { changes.append("umask \(String(mask, radix: 8))") }
        if locale != before.locale { changes.append("locale \(locale)") }
        let signals = handlers.keys.filter { handlers[$0] != before.handlers[$0] }.sorted()
        if !signals.isEmpty { changes.append("handlers of \(signals.map(signalName).joined(separator: " "))") }
        return changes
    }

    /// The descriptors and threads that there are now and were not before; nil when there are none.
    func leftBehind(since before: ProcessPicture) -> String? {
        let more = [(descriptors - before.descriptors, "descriptors"), (threads - before.threads, "threads")].filter { $0.0 > 0 }
        return more.isEmpty ? nil : more.map { "\($0.0) more \($0.1)" }.joined(separator: ", ")
    }
}
