import ConfigJSON

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
        if isPush, !body.isEmpty, mediaType != "application/proto" {
            return "the answer to a Push is \(shownType), not application/proto"
        }
        return nil
    }

    /// Whether the response is a web page.
    public var isPage: Bool {
        if !contentType.isEmpty { return mediaType == "text/html" || mediaType == "application/xhtml+xml" }
        return Self.beginsAsPage(String(decoding: body.prefix(4096), as: UTF8.self))
    }

    /// Whether a text begins like a web page.
    public static func beginsAsPage(_ text: String) -> Bool {
        let start = text.prefix(64).drop(while: \.isWhitespace).lowercased()
        return start.hasPrefix("<!doctype html") || start.hasPrefix("<html")
    }

    private var mediaType: String {
        let type = contentType.prefix { $0 != ";" }.lowercased()
        return String(type.drop(while: \.isWhitespace).reversed().drop(while: \.isWhitespace).reversed())
    }

    private var shownType: String { contentType.isEmpty ? "without a content type" : JSONValue.quoted(String(contentType.prefix(100))) }
}
