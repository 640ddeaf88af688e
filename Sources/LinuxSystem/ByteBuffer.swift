import CLinux
import Glibc

/// A growable buffer that is moved, not copied, between owners; its address does not change except by an append.
@safe public struct ByteBuffer: ~Copyable, @unchecked Sendable {
    private var storage: UnsafeMutableRawPointer?
    /// How many bytes it has memory for.
    public private(set) var capacity = 0
    /// How many bytes it holds.
    public private(set) var count = 0

    /// Called instead of free(3) with bytes that somebody else has; nil for bytes of this buffer's own.
    private let release: (@Sendable () -> Void)?

    /// Makes an empty buffer, which allocates nothing before the first append.
    public init() {
        unsafe storage = nil
        release = nil
    }

    /// Borrows bytes, which are never changed; nothing may be appended.
    ///
    /// - Parameter release: called when the buffer is destroyed; the bytes are valid until then.
    public init(borrowing bytes: UnsafeRawBufferPointer, release: @escaping @Sendable () -> Void) {
        unsafe storage = unsafe UnsafeMutableRawPointer(mutating: bytes.baseAddress)
        (count, capacity, self.release) = (bytes.count, bytes.count, release)
    }

    deinit { if let release { release() } else { unsafe free(storage) } }

    /// The address of the bytes, valid until the next append or the end of this value; NULL when nothing was ever appended.
    public var address: UnsafeMutableRawPointer? { unsafe storage }

    /// Lends the bytes to `body`.
    public func withBytes<R: ~Copyable, E: Error>(_ body: (Span<UInt8>) throws(E) -> R) throws(E) -> R {
        guard let start = unsafe storage?.assumingMemoryBound(to: UInt8.self) else { return try body(Span()) }
        return try body(unsafe Span(_unsafeStart: start, count: count))
    }

    /// Makes room for `more` bytes; at least doubles the capacity, so that the total cost of appending stays linear.
    ///
    /// - Throws: ENOMEM; the content is unchanged then.
    public mutating func reserve(_ more: Int) throws(SystemError) {
        guard capacity - count < more else { return }
        let wanted = max(count + more, capacity * 2)
        guard let grown = unsafe realloc(storage, wanted) else { throw SystemError("allocate \(wanted) bytes", code: ENOMEM) }
        unsafe storage = grown
        capacity = wanted
    }

    /// Adds a copy of `bytes` at the end.
    public mutating func append(_ bytes: RawSpan) throws(SystemError) {
        try reserve(bytes.byteCount)
        guard let end = unsafe address?.advanced(by: count) else { return }
        unsafe bytes.withUnsafeBytes { source in
            guard let start = source.baseAddress else { return }
            unsafe memcpy(end, start, source.count)
        }
        count += bytes.byteCount
    }

    /// Makes room for `room` bytes at the end, lets `body` write there, and keeps as many bytes as `body` returns.
    public mutating func append<R>(room: Int, _ body: (UnsafeMutableRawBufferPointer) -> (Int, R)) throws(SystemError) -> R {
        try reserve(room)
        let (written, result) = unsafe body(UnsafeMutableRawBufferPointer(start: storage?.advanced(by: count), count: room))
        count += written
        return result
    }

    /// Receives at most `limit` bytes from a socket and appends them, after making room for `room` bytes.
    public mutating func receive(from socket: Int32, room: Int, limit: Int) throws(SystemError) -> Transfer {
        unsafe try receive(room: room, limit: limit) { Transfer(unsafe recv(socket, $0.baseAddress, $0.count, 0)) }
    }

    /// Lets `read` fill at most `limit` bytes at the end, after making room for `room` bytes.
    public mutating func receive(
        room: Int, limit: Int, _ read: (UnsafeMutableRawBufferPointer) -> Transfer
    ) throws(SystemError) -> Transfer {
        // Grows only when little room is left: growing for each byte of a slow sender would move, and so touch, all reserved
        // memory.
        if capacity - count < min(Self.littleRoom, limit) { try reserve(min(room, limit)) }
        let result = unsafe read(UnsafeMutableRawBufferPointer(start: storage?.advanced(by: count), count: min(capacity - count, limit)))
        if case .done(let received) = result { count += received }
        return result
    }

    private static let littleRoom = 4096

    /// Removes the bytes and keeps the memory.
    public mutating func removeAll() { count = 0 }

    /// Frees the unused capacity, when it is large enough to justify a copy.
    public mutating func trim() {
        guard capacity - count > max(4096, count / 4), count > 0, let trimmed = unsafe realloc(storage, count) else { return }
        unsafe storage = trimmed
        capacity = count
    }
}

/// Returns freed memory to the system; otherwise the allocator keeps it for the next burst.
///
/// Takes milliseconds after a large backlog.
public func returnFreedMemory() { malloc_trim(0) }

/// Has the allocator return blocks of more than 512 KiB to the system as soon as they are freed, and map them anew each time.
///
/// By default the allocator keeps freed blocks of up to 32 MiB in holes between used ones (mallopt(3)). Smaller blocks, which most
/// profiles are, are still reused.
public func returnLargeBlocks() {
    mallopt(CLINUX_MMAP_THRESHOLD, 512 * 1024)
    mallopt(CLINUX_TRIM_THRESHOLD, 8 * 1024 * 1024)
}

/// The result of one non-blocking transfer.
public enum Transfer: Equatable, Sendable {
    /// The number of bytes moved; for a read, zero is the end of the stream.
    case done(Int)
    /// Nothing can be moved now; wait for readiness.
    case wouldBlock
    /// The connection is broken, with this `errno`.
    case failed(Int32)

    init(_ result: Int) {
        if result >= 0 {
            self = .done(result)
        } else {
            self = errno == EAGAIN || errno == EINTR ? .wouldBlock : .failed(errno)
        }
    }
}
