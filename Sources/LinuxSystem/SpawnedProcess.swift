import CLinux
import Glibc
import Synchronization

/// A process that this program has started from its own binary. Thread-safe.
///
/// It is started by a thread that lives as long as this process, because the signal that a process gets at its parent's death
/// (prctl(2), `PR_SET_PDEATHSIG`) comes when the thread ends that has started it.
public final class SpawnedProcess: Sendable {
    /// How a process has ended.
    public enum End: Equatable, Sendable, CustomStringConvertible {
        case exited(status: Int32)
        case signaled(Int32)
        /// The system does not tell, because somebody else has waited for the process.
        case unknown

        /// A part of a sentence: `it was ended by SIGSEGV`.
        public var description: String {
            switch self {
            case .exited(let status): "it exited with status \(status)"
            case .signaled(let number): "it was ended by \(signalName(number))"
            case .unknown: "it ended"
            }
        }
    }

    private let pid: pid_t
    /// False once the process was waited for: its id may be another process's from then on.
    private let isChild = Mutex(true)

    private init(pid: pid_t) { self.pid = pid }

    // MARK: Starting

    private final class Request: Sendable {
        let arguments: [String]
        let descriptors: [Int32]
        let result = Monitor<Result<SpawnedProcess, SystemError>?>(nil)
        /// True once nobody waits for the process any more.
        let isAbandoned = Mutex(false)

        init(_ arguments: [String], _ descriptors: [Int32]) { (self.arguments, self.descriptors) = (arguments, descriptors) }
    }

    private static let requests = Monitor<[Request]>([])
    /// Starts the thread that starts processes, once; nil when the system refused.
    private static let spawner: Void? = try? Thread.detached("spawner") {
        while true {
            let request = requests.wait { $0.isEmpty ? .again(.never) : .done($0.removeFirst()) }
            do throws(SystemError) {
                let process = try spawn(request.arguments, request.descriptors)
                if request.isAbandoned.withLock({ $0 }) { process.kill() }
                request.result.withLock { $0 = .success(process) }
            } catch { request.result.withLock { $0 = .failure(error) } }
            request.result.signal()
        }
    }

    /// How long to wait until a process has begun.
    private static let startTime = Duration.seconds(10)

    /// Starts this program's own binary, even if its file was replaced or removed, with these words behind its name.
    ///
    /// The process has no signal blocked, is the first of a group of its own, reads nothing on standard input, and has standard output
    /// and standard error of this process.
    ///
    /// - Parameter descriptors: open descriptors that it gets as 3, 4, and so on.
    public static func start(_ arguments: [String], _ descriptors: [Int32]) throws(SystemError) -> SpawnedProcess {
        guard spawner != nil else { throw SystemError("pthread_create spawner", code: EAGAIN) }
        let request = Request(arguments, descriptors)
        requests.withLock { $0.append(request) }
        requests.signal()
        let deadline = MonotonicTime.now + startTime
        let result = request.result.wait { result -> WaitStep<Result<SpawnedProcess, SystemError>?> in
            result != nil || MonotonicTime.now >= deadline ? .done(result) : .again(deadline)
        }
        guard let result else {
            // A disk that does not answer keeps the program from being read.
            request.isAbandoned.withLock { $0 = true }
            throw SystemError("start /proc/self/exe", code: ETIMEDOUT)
        }
        return try result.get()
    }

    private static func spawn(_ arguments: [String], _ descriptors: [Int32]) throws(SystemError) -> SpawnedProcess {
        var actions = unsafe posix_spawn_file_actions_t()
        unsafe posix_spawn_file_actions_init(&actions)
        defer { unsafe posix_spawn_file_actions_destroy(&actions) }
        unsafe posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0)
        // Copies with high numbers, so that none is overwritten before it is used.
        var copies: [Int32] = []
        defer { for copy in copies { close(copy) } }
        for descriptor in descriptors {
            let copy = fcntl(descriptor, F_DUPFD_CLOEXEC, 64)
            guard copy >= 0 else { throw SystemError("dup") }
            copies.append(copy)
        }
        for (index, copy) in copies.enumerated() { unsafe posix_spawn_file_actions_adddup2(&actions, copy, Int32(3 + index)) }
        var attributes = posix_spawnattr_t()
        unsafe posix_spawnattr_init(&attributes)
        defer { unsafe posix_spawnattr_destroy(&attributes) }
        var (none, all) = (sigset_t(), sigset_t())
        unsafe sigemptyset(&none)
        unsafe sigfillset(&all)
        unsafe posix_spawnattr_setsigmask(&attributes, &none)
        unsafe posix_spawnattr_setsigdefault(&attributes, &all)
        unsafe posix_spawnattr_setpgroup(&attributes, 0)
        unsafe posix_spawnattr_setflags(
            &attributes, Int16(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP))
        var words = unsafe (["gateway"] + arguments).map { unsafe strdup($0) }
        unsafe words.append(nil)
        defer { unsafe words.forEach { unsafe free($0) } }
        var pid: pid_t = 0
        var code = unsafe posix_spawn(&pid, "/proc/self/exe", &actions, &attributes, &words, clinux_environment())
        // Where /proc is not mounted, the path that this program was started by is the next best.
        let path = unsafe UnsafePointer<CChar>(bitPattern: getauxval(UInt(CLINUX_AT_EXECFN)))
        if code == ENOENT, let path = unsafe path {
            code = unsafe posix_spawn(&pid, path, &actions, &attributes, &words, clinux_environment())
        }
        guard code == 0 else { throw SystemError("start /proc/self/exe", code: code) }
        return SpawnedProcess(pid: pid)
    }

    // MARK: Watching and ending

    /// Ends the process by SIGKILL; does nothing when it was waited for.
    public func kill() { isChild.withLock { if $0 { Glibc.kill(pid, SIGKILL) } } }

    /// How the process ended; nil while it runs.
    ///
    /// - Parameter mustWait: whether to wait for its end.
    public func end(mustWait: Bool) -> End? {
        var info = unsafe siginfo_t()
        // First without taking the process's id away, which kill() must not use after that.
        let options = WEXITED | WNOWAIT | (mustWait ? 0 : WNOHANG)
        guard retrying({ unsafe waitid(P_PID, id_t(pid), &info, options) }) == 0 else {
            return .unknown
        }
        guard unsafe mustWait || info._sifields._sigchld.si_pid != 0 else { return nil }
        return isChild.withLock { isChild in
            isChild = false
            var status: Int32 = 0
            guard unsafe waitpid(pid, &status, WNOHANG) == pid else { return .unknown }
            return status & 0x7F == 0 ? .exited(status: (status >> 8) & 0xFF) : .signaled(status & 0x7F)
        }
    }

    /// How the process ended; nil when it still runs after this time. A process that ends closes its sockets a moment before.
    public func end(within time: Duration) -> End? {
        var patience = Patience(time)
        while true {
            if let end = end(mustWait: false) { return end }
            if patience.look() == nil { return nil }
            _ = poll(nil, 0, 10)
        }
    }

    /// The memory of its own that the process has, in bytes: what it has allocated and touched, without files and shared memory; nil
    /// when it cannot be read.
    public var memory: Int? {
        guard let file = try? FileDescriptor.open("/proc/\(pid)/status", O_RDONLY), let text = try? file.readAll(limit: 1 << 16) else {
            return nil
        }
        let line = String(decoding: text, as: UTF8.self).split(separator: "\n").first { $0.hasPrefix("RssAnon:") }
        return line.flatMap { $0.split(separator: " ").dropLast().last }.flatMap { Int($0) }.map { $0 << 10 }
    }
}

/// A signal's name, such as SIGSEGV.
public func signalName(_ number: Int32) -> String {
    unsafe sigabbrev_np(number).map { unsafe "SIG" + String(cString: $0) } ?? "signal \(number)"
}

/// What a process that runs foreign code gives up before it does so.
public enum ProcessRestriction {
    /// Has the system kill this process when its parent ends; ends it at once when the parent has ended already.
    ///
    /// A change of the user undoes this.
    public static func endWithParent(_ parent: Int32) {
        clinux_prctl(CLINUX_PDEATHSIG, UInt(SIGKILL))
        if getppid() != parent { _exit(0) }
    }

    /// Ignores the signals by which a terminal or a service manager ends a whole group of processes; the parent ends this one.
    public static func ignoreEndSignals() { for number in [SIGINT, SIGTERM, SIGHUP, SIGQUIT] { signal(number, SIG_IGN) } }

    /// Closes all descriptors from `first` on.
    public static func closeDescriptors(from first: Int32) { _ = close_range(UInt32(first), .max, 0) }

    /// Lets the process have at most this many descriptors.
    public static func limitDescriptors(to count: Int) throws(SystemError) {
        var limit = rlimit(rlim_cur: rlim_t(count), rlim_max: rlim_t(count))
        guard unsafe setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { throw SystemError("setrlimit") }
    }

    /// Becomes another user for good, without the groups of the present one.
    public static func become(user: UInt32, group: UInt32) throws(SystemError) {
        guard CLinux.setgroups(0, nil) == 0, setgid(group) == 0, setuid(user) == 0 else { throw SystemError("setuid") }
    }

    /// Keeps this process and its children from getting more rights by running another program.
    public static func refuseNewPrivileges() throws(SystemError) {
        guard clinux_prctl(CLINUX_NO_NEW_PRIVS, 1) == 0 else { throw SystemError("prctl") }
    }
}

/// A user by name.
public struct SystemUser: Equatable, Sendable {
    /// The user id.
    public let id: UInt32
    /// The id of the user's group.
    public let group: UInt32

    /// Makes a user of its ids.
    public init(id: UInt32, group: UInt32) { (self.id, self.group) = (id, group) }

    /// Looks a name up; nil when there is none such.
    public init?(named name: String) {
        var (entry, found) = unsafe (passwd(), UnsafeMutablePointer<passwd>?.none)
        var room = [CChar](repeating: 0, count: 16 << 10)
        guard unsafe getpwnam_r(name, &entry, &room, room.count, &found) == 0, unsafe found != nil else { return nil }
        unsafe (id, group) = (entry.pw_uid, entry.pw_gid)
    }
}

/// The variables of the environment, each as `NAME=value`; no other thread may change them meanwhile.
public var environmentVariables: [String] {
    var variables: [String] = []
    var next = unsafe clinux_environment()
    while let entry = unsafe next?.pointee {
        unsafe variables.append(String(cString: entry))
        unsafe next = unsafe next?.advanced(by: 1)
    }
    return variables
}
