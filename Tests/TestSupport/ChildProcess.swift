import Foundation
import Glibc

/// A process started by a test, with its streams.
final class ChildProcess: @unchecked Sendable {
    /// The destination of a stream of the child.
    enum Stream {
        case lines
        /// A pipe that is unread until the test reads it.
        case unread
        case closed
        /// A descriptor of the test.
        case descriptor(Int32)

        var isUnread: Bool { if case .unread = self { true } else { false } }
    }

    /// The exit status and all output of a process that has ended.
    struct Ended {
        /// The exit status, or 128 plus the signal number, as in a shell.
        let status: Int32
        let out: String
        let err: String
    }

    private static let birth = NSLock()
    /// `posix_spawn_file_actions_addclosefrom_np` of glibc 2.34, which Swift's module of it leaves out.
    private static let closeFrom = dlsym(nil, "posix_spawn_file_actions_addclosefrom_np").map {
        unsafeBitCast($0, to: (@convention(c) (UnsafeMutablePointer<posix_spawn_file_actions_t>, Int32) -> Int32).self)
    }

    let id: pid_t
    let output = LineLog()
    let errors = LineLog()
    /// The reading end of an unread pipe, which the test must close.
    private(set) var unreadOutput: Int32 = -1
    private var input: Int32
    private let condition = NSCondition()
    private var status: Int32?

    /// Starts a program that is found in PATH.
    init(_ arguments: [String], folder: String? = nil, environment: [String: String] = [:], stdout: Stream = .lines) throws {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        // No other child may start before the pipes are close-on-exec, or it would keep them open.
        Self.birth.lock()
        defer { Self.birth.unlock() }
        let (stdin, out, err) = (try Pipe(), try Pipe(), try Pipe())
        posix_spawn_file_actions_adddup2(&actions, stdin.reader, 0)
        switch stdout {
        case .closed: posix_spawn_file_actions_addclose(&actions, 1)
        case .descriptor(let number): posix_spawn_file_actions_adddup2(&actions, number, 1)
        case .lines, .unread: posix_spawn_file_actions_adddup2(&actions, out.writer, 1)
        }
        posix_spawn_file_actions_adddup2(&actions, err.writer, 2)
        // Other tests have files open, some of them by Foundation, which are not close-on-exec.
        _ = Self.closeFrom?(&actions, 3)
        // Threads of tests may block signals, and a child would inherit that.
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var none = sigset_t()
        sigemptyset(&none)
        posix_spawnattr_setsigmask(&attributes, &none)
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK))
        var all = ProcessInfo.processInfo.environment.filter { !$0.key.lowercased().hasSuffix("_proxy") }
        all.merge(environment) { $1 }
        var words: [UnsafeMutablePointer<CChar>?] = (["env"] + (folder.map { ["-C", $0] } ?? []) + arguments).map { strdup($0) } + [nil]
        var variables: [UnsafeMutablePointer<CChar>?] = all.map { strdup("\($0)=\($1)") } + [nil]
        defer { for text in words + variables { free(text) } }
        var child: pid_t = 0
        let code = posix_spawnp(&child, "env", &actions, &attributes, &words, &variables)
        for end in [stdin.reader, out.writer, err.writer] { Glibc.close(end) }
        guard code == 0 else {
            for end in [stdin.writer, out.reader, err.reader] { Glibc.close(end) }
            throw NeverCame(what: "\(arguments[0]): \(String(cString: strerror(code)))", seen: [])
        }
        (id, input) = (child, stdin.writer)
        if stdout.isUnread { unreadOutput = out.reader } else { output.read(out.reader) }
        errors.read(err.reader)
        waitOnThread()
    }

    /// A pipe whose ends are close-on-exec.
    private struct Pipe {
        let reader: Int32
        let writer: Int32

        init() throws {
            var ends: [Int32] = [-1, -1]
            guard pipe(&ends) == 0 else { throw NeverCame(what: "pipe", seen: []) }
            for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
            (reader, writer) = (ends[0], ends[1])
        }
    }

    /// Waits for the process on a thread, so that its status is known as soon as it ends.
    private func waitOnThread() {
        Thread.detachNewThread { [self] in
            var raw: Int32 = 0
            while waitpid(id, &raw, 0) < 0, errno == EINTR {}
            condition.withLock {
                // A shell shows the same number.
                status = raw & 0x7F == 0 ? (raw >> 8) & 0xFF : 128 + (raw & 0x7F)
                condition.broadcast()
            }
        }
    }

    var isRunning: Bool { condition.withLock { status == nil } }

    /// Sends a line to the process.
    func write(_ line: String) {
        let bytes = Array((line + "\n").utf8)
        _ = Glibc.write(input, bytes, bytes.count)
    }

    func signal(_ number: Int32) { condition.withLock { if status == nil { Glibc.kill(id, number) } } }

    /// Waits for the end and the last lines, and returns the exit status, or 128 plus the signal number.
    @discardableResult
    func waitForExit(patience: TimeInterval = Project.patience) throws -> Int32 {
        let status = try waitForStatus(patience: patience)
        try errors.waitForEnd()
        if unreadOutput < 0 { try output.waitForEnd() }
        return status
    }

    /// Waits for the end, even if another process still has the streams open.
    func waitForStatus(patience: TimeInterval = Project.patience) throws -> Int32 {
        let limit = Date(timeIntervalSinceNow: patience)
        condition.lock()
        defer { condition.unlock() }
        while true {
            if let status { return status }
            guard condition.wait(until: limit) else { throw NeverCame(what: "the end of process \(id)", seen: errors.lines) }
        }
    }

    /// Closes the input and waits for the end, and kills the process if that does not come in time.
    func wait(patience: TimeInterval = Project.patience) throws -> Ended {
        closeInput()
        do {
            let status = try waitForExit(patience: patience)
            return Ended(status: status, out: output.text, err: errors.text)
        } catch {
            signal(SIGKILL)
            throw error
        }
    }

    /// Runs a program to its end without input.
    static func run(
        _ arguments: [String], in folder: String? = nil, environment: [String: String] = [:], patience: TimeInterval = Project.patience
    ) throws -> Ended {
        try ChildProcess(arguments, folder: folder, environment: environment).wait(patience: patience)
    }

    /// Waits until the process has this many threads of this name, or with `inChildren` the processes that it has started.
    func waitForThreads(_ count: Int, named name: String, inChildren: Bool = false) throws {
        try errors.poll(for: "\(count) threads \(name)") {
            let processes =
                inChildren ? Self.read("children", ofTasksOf: "\(id)").flatMap { $0.split(separator: " ").map(String.init) } : ["\(id)"]
            let names = processes.flatMap { Self.read("comm", ofTasksOf: $0) }
            return names.count { $0 == name + "\n" } == count ? true : nil
        }
    }

    /// Reads a file of each task of a process; tasks that have ended meanwhile are left out.
    private static func read(_ file: String, ofTasksOf process: String) -> [String] {
        let tasks = (try? FileManager.default.contentsOfDirectory(atPath: "/proc/\(process)/task")) ?? []
        return tasks.compactMap { try? String(contentsOfFile: "/proc/\(process)/task/\($0)/\(file)", encoding: .utf8) }
    }

    private func closeInput() {
        if input >= 0 { Glibc.close(input) }
        input = -1
    }

    /// Kills the process and waits for its end.
    func end() {
        signal(SIGKILL)
        _ = try? waitForStatus()
        closeInput()
    }
}
