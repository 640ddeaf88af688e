public import LinuxSystem

/// How much of an answer is read; whoever says more is hung up on.
public struct AnswerBounds: Sendable {
    /// Status lines, headers and trailers together, those of answers before the last one too.
    public static let head = 64 << 10
    public static let body = 1 << 20

    /// How many turns within a second may bring nothing that counts.
    private static let mostIdleTurns = 64

    private var headBytes = 0
    private var bodyBytes = 0
    /// Whether the last head has come to its end: libcurl takes one for whole in the middle of which a server hangs up.
    public private(set) var hasHead = false

    private var idleTurns = 0
    private var idleSince = MonotonicTime.now
    private var lastCount = 0

    public init() {}

    /// Counts a line of a head or of trailers, with its end.
    ///
    /// - Returns: whether there is room for it.
    public mutating func takesHead(_ line: UnsafeRawBufferPointer) -> Bool {
        if unsafe line.elementsEqual("\r\n".utf8) || line.elementsEqual("\n".utf8) { hasHead = true }
        // Another head, after an interim one or a proxy's.
        if unsafe line.starts(with: "HTTP/".utf8) { hasHead = false }
        headBytes += line.count
        return headBytes <= Self.head
    }

    /// - Returns: whether there is room for this much more of the body.
    public mutating func takesBody(_ count: Int) -> Bool {
        bodyBytes += count
        return bodyBytes <= Self.body
    }

    /// Counts a turn in which the connection was read or written: extensions of chunks, for one, are of no head and no body.
    ///
    /// - Parameter sent: how much of the request's body has gone out, which may go on while an answer comes.
    /// - Returns: whether the answer may go on.
    public mutating func takesTurn(sent: Int, _ now: MonotonicTime) -> Bool {
        let count = headBytes + bodyBytes + sent
        if !hasHead || count != lastCount || now.since(idleSince) > .seconds(1) {
            (lastCount, idleTurns, idleSince) = (count, 0, now)
            return true
        }
        idleTurns += 1
        return idleTurns <= Self.mostIdleTurns
    }

    /// The part of the answer that went over its bound; nil when none did.
    public var excess: String? {
        if headBytes > Self.head { return "more than \(Self.head >> 10) KiB of head and trailers" }
        if bodyBytes > Self.body { return "a body of more than \(Self.body >> 20) MiB" }
        return idleTurns > Self.mostIdleTurns ? "nothing but framing" : nil
    }
}
