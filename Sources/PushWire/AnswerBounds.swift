public import LinuxSystem

/// The bounds of a response; a request whose response exceeds one is ended.
public struct AnswerBounds: Sendable {
    /// The most bytes of status lines, headers and trailers together, including those of interim and proxy responses.
    public static let head = 64 << 10
    /// The most bytes of the body: 1 MiB.
    public static let body = 1 << 20

    /// How many reads or writes within a second may bring neither head nor body bytes.
    private static let mostIdleTurns = 64

    private var headBytes = 0
    private var bodyBytes = 0
    /// Whether the last head is complete: libcurl reports success even if the server closes the connection in the middle of a head.
    public private(set) var hasHead = false

    private var idleTurns = 0
    private var idleSince = MonotonicTime.now
    private var lastCount = 0

    /// Makes the bounds of one response, with nothing counted yet.
    public init() {}

    /// Counts one line of a head or of trailers, including its line end.
    ///
    /// - Returns: whether the head is within its bound.
    public mutating func takesHead(_ line: UnsafeRawBufferPointer) -> Bool {
        if unsafe line.elementsEqual("\r\n".utf8) || line.elementsEqual("\n".utf8) { hasHead = true }
        // A new head begins, after an interim response or a proxy's.
        if unsafe line.starts(with: "HTTP/".utf8) { hasHead = false }
        headBytes += line.count
        return headBytes <= Self.head
    }

    /// - Returns: whether the body is within its bound with this many more bytes.
    public mutating func takesBody(_ count: Int) -> Bool {
        bodyBytes += count
        return bodyBytes <= Self.body
    }

    /// Counts a read or write of the connection, to detect data that is neither head nor body, such as chunk extensions.
    ///
    /// - Parameter sent: how many bytes of the request's body were sent, which may go on during the response.
    /// - Returns: whether the request may go on.
    public mutating func takesTurn(sent: Int, _ now: MonotonicTime) -> Bool {
        let count = headBytes + bodyBytes + sent
        if !hasHead || count != lastCount || now.since(idleSince) > .seconds(1) {
            (lastCount, idleTurns, idleSince) = (count, 0, now)
            return true
        }
        idleTurns += 1
        return idleTurns <= Self.mostIdleTurns
    }

    /// The bound that the response exceeded, in words; nil when none.
    public var excess: String? {
        if headBytes > Self.head { return Self.headExcess }
        if bodyBytes > Self.body { return Self.bodyExcess }
        return idleTurns > Self.mostIdleTurns ? Self.framingExcess : nil
    }

    static let headExcess = "more than \(head >> 10) KiB of head and trailers"
    static let bodyExcess = "a body of more than \(body >> 20) MiB"
    static let framingExcess = "nothing but framing"
}
