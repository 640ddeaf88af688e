import LinuxSystem
import ProfileArchive
import Profiles

/// An accepted request in its on-disk form.
struct AcceptedRequest: Sendable, Equatable {
    let key: RequestKey
    /// A check sum of the listener's name; the name itself is hashed into the key.
    let listener: UInt32
    /// The times of acceptance and of the end of the window, Unix nanoseconds.
    let acceptedAt: Int64
    let until: Int64

    static let size = 56

    init(key: RequestKey, listener: String, window: Duration, at time: Int64 = MonotonicTime.unixNanoseconds) {
        (self.key, self.listener, acceptedAt) = (key, Self.sum(of: listener), time)
        let (sum, overflow) = time.addingReportingOverflow(window.inNanoseconds)
        until = overflow ? .max : sum
    }

    /// Decodes a record; nil when it is damaged.
    init?(_ record: RawSpan, seed: UInt32) {
        guard record.byteCount == Self.size, let key = RequestKey(record.extracting(20..<52)),
            littleEndian(record, at: Self.size - 4) == CRC32C.of(record.extracting(0..<(Self.size - 4)), seed: seed)
        else { return nil }
        (acceptedAt, until, listener) = (littleEndian(record, at: 0), littleEndian(record, at: 8), littleEndian(record, at: 16))
        self.key = key
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

    static func sum(of listener: String) -> UInt32 { CRC32C.of(Array(listener.utf8)) }

    /// The remaining time for which it is to be remembered; never longer than a window, even if the clock was set.
    func left(unixNow: Int64, window: Duration) -> Duration {
        let whole = min(until.subtractingReportingOverflow(acceptedAt).partialValue, window.inNanoseconds)
        let (age, overflow) = unixNow.subtractingReportingOverflow(acceptedAt)
        return overflow || whole <= 0 ? .zero : .nanoseconds(whole - min(max(0, age), whole))
    }
}
