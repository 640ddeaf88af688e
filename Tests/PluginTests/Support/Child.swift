import Foundation
import Glibc

/// A process that a test started: what it writes, and how it ends.
final class Child: Sendable {
    struct Output: Sendable {
        var standardOutput: [UInt8] = []
        var standardError: [UInt8] = []
        var openPipes = 2
        var exitStatus: Int32?

        var out: String { String(decoding: standardOutput, as: UTF8.self) }
        var err: String { String(decoding: standardError, as: UTF8.self) }
    }

    let pid: pid_t
    let output = Watched(Output())

    // Between making a pipe and marking it close-on-exec no other child may be born with it.
    private static let birth = NSLock()

    /// - Parameter standardOutput: a descriptor for the child's standard output; nil collects it.
    init(
        _ arguments: [String], in folder: String? = nil, environment: [String: String] = [:], standardOutput: Int32? = nil
    ) throws {
        let all = (folder.map { ["/usr/bin/env", "-C", $0] } ?? ["/usr/bin/env"]) + environment.map { "\($0)=\($1)" } + arguments
        Self.birth.lock()
        defer { Self.birth.unlock() }
        let (out, err) = (try Pipe(), try Pipe())
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        posix_spawn_file_actions_adddup2(&actions, standardOutput ?? out.writer, 1)
        posix_spawn_file_actions_adddup2(&actions, err.writer, 2)
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        var noSignals = sigset_t()
        sigemptyset(&noSignals)
        posix_spawnattr_setsigmask(&attributes, &noSignals)
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK))
        defer {
            posix_spawn_file_actions_destroy(&actions)
            posix_spawnattr_destroy(&attributes)
        }
        var words = all.map { strdup($0) } + [nil]
        defer { for word in words { free(word) } }
        var pid = pid_t()
        let code = posix_spawn(&pid, "/usr/bin/env", &actions, &attributes, &words, environ)
        close(out.writer)
        close(err.writer)
        guard code == 0 else { throw Obstacle("cannot start \(arguments): \(String(cString: strerror(code)))") }
        self.pid = pid
        read(out.reader, \.standardOutput)
        read(err.reader, \.standardError)
        Thread.detachNewThread { [output, pid] in
            var status: Int32 = 0
            while waitpid(pid, &status, 0) < 0, errno == EINTR {}
            // As a shell has it: the exit status, or 128 and the signal's number.
            output.update { $0.exitStatus = status & 0x7F == 0 ? status >> 8 & 0xFF : 128 + status & 0x7F }
        }
    }

    private struct Pipe {
        let reader: Int32
        let writer: Int32

        init() throws {
            var ends: [Int32] = [-1, -1]
            guard pipe(&ends) == 0 else { throw Obstacle("pipe: errno \(errno)") }
            for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
            (reader, writer) = (ends[0], ends[1])
        }
    }

    private func read(_ descriptor: Int32, _ place: WritableKeyPath<Output, [UInt8]> & Sendable) {
        Thread.detachNewThread { [output] in
            var buffer = [UInt8](repeating: 0, count: 65536)
            while true {
                let count = Glibc.read(descriptor, &buffer, buffer.count)
                if count < 0, errno == EINTR { continue }
                guard count > 0 else { break }
                output.update { $0[keyPath: place] += buffer[..<count] }
            }
            close(descriptor)
            output.update { $0.openPipes -= 1 }
        }
    }

    func signal(_ number: Int32) { kill(pid, number) }

    /// Waits for the end; one that does not end in time is killed.
    @discardableResult
    func wait(timeout: TimeInterval = 2 * Project.patience) throws -> (status: Int32, out: String, err: String) {
        do {
            return try output.wait(for: "the end of process \(pid)", timeout: timeout) { output in
                guard let status = output.exitStatus, output.openPipes == 0 else { return nil }
                return (status, output.out, output.err)
            }
        } catch {
            kill(pid, SIGKILL)
            throw error
        }
    }

    /// Runs a command to its end.
    static func run(_ arguments: [String], in folder: String? = nil) throws -> (status: Int32, out: String, err: String) {
        try Child(arguments, in: folder).wait()
    }
}
