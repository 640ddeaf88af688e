import LinuxSystem

@testable import Profiles

extension ReceivedProfile {
    /// A profile whose size in a queue is ``emptyCost`` and its body.
    static func sample(body count: Int = 0, share: ShareKey = .unknown) throws -> ReceivedProfile {
        var body = ByteBuffer()
        try body.append([UInt8](repeating: 0x78, count: count).span.bytes)
        var content = ProfileContent(
            api: .ingest, receivedAt: 1, path: "/ingest", format: .pprof, samples: [.init(range: 0..<count)])
        content.share = share
        return ReceivedProfile(content, body: body)
    }

    /// The size in a queue of a sample profile without a body.
    static var emptyCost: Int { get throws { try sample().byteCount } }
}

extension MonotonicTime {
    /// The time that is this many seconds after the clock's zero.
    static func at(_ seconds: Int64) -> MonotonicTime { MonotonicTime(nanoseconds: seconds * 1_000_000_000) }
}
