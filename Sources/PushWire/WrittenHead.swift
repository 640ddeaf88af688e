import ConfigJSON
import LinuxSystem

/// Checks the texts that are written into the head of a request (RFC 9110 §5, RFC 9112 §3).
///
/// A line break would begin another header or another request, and a NUL would end the text early.
public enum WrittenHead {
    /// Why a text cannot be in a head, which is permanent for the profile or config it comes from. The reason never contains a
    /// value, which may be a secret.
    public struct Refusal: Error, Equatable {
        /// The reason in words, without the value that was refused.
        public let reason: String
    }

    /// - Throws: what is wrong with a header.
    public static func check(_ header: (name: String, value: String)) throws(Refusal) {
        guard isToken(header.name) else { throw Refusal(reason: "\(shown(header.name)) is no name of a header") }
        try check(value: header.value.utf8.span, of: header.name)
    }

    /// - Parameters:
    ///   - value: the value of a header, in UTF-8.
    ///   - name: the name of the header, which is not checked.
    public static func check(value: Span<UInt8>, of name: String) throws(Refusal) {
        for index in value.indices where isControl(value[index]) { throw Refusal(reason: "the header \(name) \(held)") }
    }

    /// - Parameter target: a path with its query, or a whole URL.
    public static func check(target: String) throws(Refusal) { try check(target: target.utf8.span) }

    /// - Parameter target: a path, a query or a whole URL, in UTF-8.
    public static func check(target: Span<UInt8>) throws(Refusal) {
        // It is long, and written for each profile: without a branch, many bytes are looked at together.
        var unwanted: UInt8 = 0
        for index in target.indices { unwanted |= (target[index] <= 0x20 ? 1 : 0) | (target[index] == 0x7F ? 1 : 0) }
        guard unwanted != 0 else { return }
        for index in target.indices where isControl(target[index]) { throw Refusal(reason: "the URL or its query \(held)") }
        throw Refusal(reason: "the URL or its query holds white space")
    }

    /// Whether a text is a token, as header names must be.
    public static func isToken(_ text: String) -> Bool {
        let bytes = text.utf8.span
        for index in bytes.indices where !bytes[index].isTokenByte { return false }
        return !bytes.isEmpty
    }

    private static let held = "holds a line break, a NUL or another control character"

    /// A tab counts as white space in a value.
    private static func isControl(_ byte: UInt8) -> Bool { byte < 0x20 && byte != 0x09 || byte == 0x7F }

    private static func shown(_ name: String) -> String { JSONValue.quoted(name.prefix(utf8: 64)) }
}
