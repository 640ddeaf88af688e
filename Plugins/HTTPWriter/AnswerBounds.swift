/// How much of an answer is read; whoever says more is hung up on.
struct AnswerBounds {
    /// Status lines, headers and trailers together, those of answers before the last one too.
    static let head = 64 << 10
    static let body = 1 << 20

    private(set) var headBytes = 0
    private(set) var bodyBytes = 0

    /// - Returns: whether there is room for this much more of the head or the trailers.
    mutating func takesHead(_ count: Int) -> Bool {
        headBytes += count
        return headBytes <= Self.head
    }

    /// - Returns: whether there is room for this much more of the body.
    mutating func takesBody(_ count: Int) -> Bool {
        bodyBytes += count
        return bodyBytes <= Self.body
    }

    /// The part of the answer that went over its bound; nil when none did.
    var excess: String? {
        if headBytes > Self.head { return "more than \(Self.head >> 10) KiB of head and trailers" }
        if bodyBytes > Self.body { return "a body of more than \(Self.body >> 20) MiB" }
        return nil
    }
}
