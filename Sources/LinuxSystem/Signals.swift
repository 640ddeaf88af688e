import CLinux
import Glibc

/// Signals as data: blocked for the whole process, read from a descriptor (`signalfd`).
///
/// Made before any other thread, so that every thread inherits the mask.
public struct Signals: ~Copyable {
    private let signals: FileDescriptor

    /// Blocks `numbers`, and ignores the signals of errors.
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

    /// Waits until a signal comes and answers its number, or nil once `deadline` has passed.
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

/// Opens /dev/null in place of standard descriptors that the parent closed, so that no file or socket of ours gets their
/// numbers and somebody's output.
public func openStandardDescriptors() {
    for number in STDIN_FILENO...STDERR_FILENO where fcntl(number, F_GETFD) == -1 {
        _ = unsafe open("/dev/null", O_RDWR)
    }
}

/// Has a peer that went away (SIGPIPE) and a file that would grow over its limit (RLIMIT_FSIZE, SIGXFSZ) be errors of `write`, EPIPE
/// and EFBIG, and not the end of the process.
///
/// This is the process's: whoever runs code of others calls it again afterwards.
public func ignoreErrorSignals() {
    signal(SIGPIPE, SIG_IGN)
    signal(SIGXFSZ, SIG_IGN)
}

/// Has no program that this process starts inherit a descriptor, but the standard ones.
///
/// For libraries that open some without close-on-exec; those that exist already are closed on exec as well, as all should be.
public func closeAllOnExec() {
    let first: UInt32 = 3
    if close_range(first, .max, Int32(CLINUX_CLOSE_RANGE_CLOEXEC)) == 0 { return }
    // Before Linux 5.11.
    for number in Int32(first)..<Int32(clamping: min(descriptorLimit, 65_536)) where fcntl(number, F_GETFD) == 0 {
        _ = fcntl(number, F_SETFD, FD_CLOEXEC)
    }
}

/// Raises the limit of open descriptors to the hard limit: each connection is one.
public func raiseDescriptorLimit() {
    var limit = rlimit()
    guard unsafe getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return }
    limit.rlim_cur = limit.rlim_max
    _ = unsafe setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
}

/// How many descriptors the process may have open; the smallest limit that is usual where it cannot be known.
public var descriptorLimit: Int {
    var limit = rlimit()
    return unsafe getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 ? Int(clamping: limit.rlim_cur) : 1024
}
