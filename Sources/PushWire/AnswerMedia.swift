import ConfigJSON
import LinuxSystem

/// Judges by content type and body whether a successful response can come from a Pyroscope server or a gateway.
public struct AnswerMedia: Sendable {
    /// The Content-Type as received; empty when there was none.
    public var contentType: String
    /// The beginning of the body.
    public var body: [UInt8]

    /// Makes a judge of one response from its Content-Type, empty when there was none, and the beginning of its body.
    public init(contentType: String, body: [UInt8]) { (self.contentType, self.body) = (contentType, body) }

    /// Why a successful response does not come from a Pyroscope server or a gateway; nil when it may.
    ///
    /// A web page comes from a proxy or a login page. The response to a Push has the codec of the call, or is empty.
    public func objection(isPush: Bool) -> String? {
        if isPage { return "the answer is \(shownType), a page and not Pyroscope's" }
        if isPush, !body.isEmpty, !isType("application/proto") {
            return "the answer to a Push is \(shownType), not application/proto"
        }
        return nil
    }

    /// Whether the response is a web page.
    public var isPage: Bool {
        if !contentType.isEmpty { return isType("text/html") || isType("application/xhtml+xml") }
        return !body.isEmpty && Self.beginsAsPage(String(decoding: body.prefix(4096), as: UTF8.self))
    }

    /// Whether a text begins like a web page.
    public static func beginsAsPage(_ text: String) -> Bool {
        let start = text.prefix(64).drop(while: \.isWhitespace).lowercased()
        return start.hasPrefix("<!doctype html") || start.hasPrefix("<html")
    }

    /// Whether the media type is this one, which is in lower case; parameters do not count (RFC 9110 §8.3.1). It is asked for every
    /// profile, so nothing is copied.
    private func isType(_ name: String) -> Bool {
        let (bytes, name) = (contentType.utf8.span, name.utf8.span)
        func isBlank(_ byte: UInt8) -> Bool { byte == 32 || 9...13 ~= byte }
        var (start, end) = (0, 0)
        while end < bytes.count, bytes[end] != UInt8(ascii: ";") { end += 1 }
        while end > start, isBlank(bytes[end - 1]) { end -= 1 }
        while start < end, isBlank(bytes[start]) { start += 1 }
        let type = bytes.extracting(start..<end)
        guard type.count == name.count else { return false }
        for index in type.indices where type[index].lowercased != name[index] { return false }
        return true
    }

    private var shownType: String { contentType.isEmpty ? "without a content type" : JSONValue.quoted(String(contentType.prefix(100))) }
}
