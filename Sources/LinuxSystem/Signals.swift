import CLinux
import Glibc

/// Signals blocked in the whole process and read from a descriptor (`signalfd`).
///
/// Must be made before any other thread is started, so that every thread inherits the mask.
public struct Signals: ~Copyable {
    private let signals: FileDescriptor

    /// Blocks the signals `numbers`, and ignores SIGPIPE and SIGXFSZ.
    public init(_ numbers: [Int32]) throws(SystemError) {
        ignoreErrorSignals()
        var mask = sigset_t()
        unsafe sigemptyset(&mask)
        for number in numbers { unsafe sigaddset(&mask, number) }
        unsafe pthread_sigmask(SIG_BLOCK, &mask, nil)
        let number = unsafe signalfd(-1, &mask, Int32(SFD_CLOEXEC | SFD_NONBLOCK))
        guard number >= 0 else { throw SystemError("signalfd") }
        signals = FileDescriptor(owning: number)
    }

    /// Waits for a signal and returns its number, or nil when `deadline` has passed.
    public func wait(until deadline: MonotonicTime) -> Int32? {
        var info = signalfd_siginfo()
        while true {
            if unsafe read(signals.number, &info, MemoryLayout<signalfd_siginfo>.size) > 0 {
                return Int32(bitPattern: info.ssi_signo)
            }
            let left = deadline.nanoseconds - MonotonicTime.now.nanoseconds
            guard left > 0 else { return nil }
            var poll = pollfd(fd: signals.number, events: Int16(POLLIN), revents: 0)
            _ = unsafe Glibc.poll(&poll, 1, Int32(clamping: (left + 999_999) / 1_000_000))
        }
    }
}

/// Opens /dev/null for standard descriptors that the parent closed; otherwise one of our files or sockets could get their number
/// and receive output meant for them.
public func openStandardDescriptors() {
    for number in STDIN_FILENO...STDERR_FILENO where fcntl(number, F_GETFD) == -1 {
        _ = unsafe open("/dev/null", O_RDWR)
    }
}

/// Ignores SIGPIPE and SIGXFSZ: writing to a closed connection, or beyond the file size limit (RLIMIT_FSIZE), then fails with EPIPE
/// or EFBIG and does not end the process.
///
/// The setting is process-wide, so it must be repeated after running foreign code, which may change it.
public func ignoreErrorSignals() {
    signal(SIGPIPE, SIG_IGN)
    signal(SIGXFSZ, SIG_IGN)
}

/// Marks all descriptors but the standard ones close-on-exec, so that child processes do not inherit them.
///
/// For libraries that open descriptors without close-on-exec; all our own have it already.
public func closeAllOnExec() {
    let first: UInt32 = 3
    if close_range(first, .max, Int32(CLINUX_CLOSE_RANGE_CLOEXEC)) == 0 { return }
    // For kernels before Linux 5.11.
    for number in Int32(first)..<Int32(clamping: min(descriptorLimit, 65_536)) where fcntl(number, F_GETFD) == 0 {
        _ = fcntl(number, F_SETFD, FD_CLOEXEC)
    }
}

/// Raises the limit of open descriptors to the hard limit, because each connection needs one.
public func raiseDescriptorLimit() {
    var limit = rlimit()
    guard unsafe getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return }
    limit.rlim_cur = limit.rlim_max
    _ = unsafe setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
}

/// The most open descriptors of the process; if unknown, 1024, the lowest usual limit.
public var descriptorLimit: Int {
    var limit = rlimit()
    return unsafe getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 ? Int(clamping: limit.rlim_cur) : 1024
}
