import LinuxSystem
import ProfileArchive

/// An accepted request as it is kept on disk.
struct AcceptedRequest: Sendable, Equatable {
    let key: RequestKey
    /// A check sum of the listener's name; the name itself is in the key.
    let listener: UInt32
    /// When it was accepted and when its window ends, as Unix times in nanoseconds.
    let acceptedAt: Int64
    let until: Int64

    static let size = 56

    init(key: RequestKey, listener: String, window: Duration, at time: Int64 = MonotonicTime.unixNanoseconds) {
        (self.key, self.listener, acceptedAt) = (key, Self.sum(of: listener), time)
        let (sum, overflow) = time.addingReportingOverflow(window.inNanoseconds)
        until = overflow ? .max : sum
    }

    /// Reads one; nil when it is damaged.
    init?(_ bytes: ArraySlice<UInt8>, seed: UInt32) {
        let bytes = Array(bytes)
        guard bytes.count == Self.size else { return nil }
        var reader = LittleEndianFields(bytes)
        (acceptedAt, until, listener) = (reader.next(), reader.next(), reader.next())
        guard let key = RequestKey(Array(bytes[20..<52])) else { return nil }
        self.key = key
        reader.skip(SHA256Stream.size)
        guard reader.next() == CRC32C.of(bytes, 0..<(Self.size - 4), seed: seed) else { return nil }
    }

    func encoded(seed: UInt32) -> [UInt8] {
        var writer = LittleEndianWriter()
        writer.add(acceptedAt)
        writer.add(until)
        writer.add(listener)
        writer.add(key.bytes)
        writer.add(CRC32C.of(writer.bytes, seed: seed))
        return writer.bytes
    }

    func isOf(_ listener: String) -> Bool { self.listener == Self.sum(of: listener) }

    private static func sum(of listener: String) -> UInt32 { CRC32C.of(Array(listener.utf8)) }

    /// How long it is still to be remembered; never longer than a window, wherever the clock was set meanwhile.
    func left(unixNow: Int64, window: Duration) -> Duration {
        let whole = min(until.subtractingReportingOverflow(acceptedAt).partialValue, window.inNanoseconds)
        let (age, overflow) = unixNow.subtractingReportingOverflow(acceptedAt)
        return overflow || whole <= 0 ? .zero : .nanoseconds(whole - min(max(0, age), whole))
    }
}

/// Integers of a file that has nothing else, one behind the other; beyond its end they are zero.
struct LittleEndianFields {
    private let bytes: [UInt8]
    private var offset = 0

    init(_ bytes: [UInt8]) { self.bytes = bytes }

    mutating func next<T: FixedWidthInteger>() -> T {
        defer { offset += MemoryLayout<T>.size }
        return unsafe bytes.withUnsafeBytes { buffer in
            var reader = unsafe LittleEndianReader(buffer, at: offset)
            return reader.integer() ?? 0
        }
    }

    mutating func skip(_ count: Int) { offset += count }
}
