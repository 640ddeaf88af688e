package import LinuxSystem

/// The head of one HTTP request, as ranges of the bytes received; header names are in lower case.
package struct RequestHead: Sendable {
    struct Field: Sendable {
        var name: Range<Int>
        var value: Range<Int>
    }

    /// How the end of the body is determined (RFC 9112 §6.3).
    package enum Framing: Equatable, Sendable {
        case length(Int)
        case chunked

        /// The size of the body, if it is announced.
        package var announced: Int? { if case .length(let size) = self { size } else { nil } }
    }

    var bytes: [UInt8] = []
    /// The sender's address; set by the connection, not read from the bytes.
    package var peer = PeerAddress.local
    /// The sender's address in words; empty without an address.
    package var peerText = ""
    package var method = 0..<0
    /// Path and query, with percent-encoding untouched; those of an absolute-form target stand without its scheme and authority.
    package var path = 0..<0
    package var query = 0..<0
    var minorVersion = 1
    var fields: [Field] = []
    package var framing = Framing.length(0)
    /// True when the connection may carry another request after this one.
    var keepsAlive = true
    var expectsContinue = false

    /// The bytes of one part.
    package subscript(range: Range<Int>) -> ArraySlice<UInt8> { bytes[range] }

    package func equals(_ range: Range<Int>, _ text: String) -> Bool {
        bytes.span.extracting(range).isEqual(to: text)
    }

    /// Whether the answer has no body (RFC 9110 §9.3.2).
    var isHEAD: Bool { equals(method, "HEAD") }

    /// Whether the path is a route's, below a prefix.
    ///
    /// Senders make paths of a URL and a route, so a slash may come several times, and one may be at the end.
    ///
    /// - Parameter prefix: begins with a slash and does not end in one, or is empty.
    package func leads(to route: String, below prefix: String = "") -> Bool {
        if prefix.isEmpty, equals(path, route) { return true }
        var index = path.lowerBound
        for text in [prefix.utf8, route.utf8] {
            for byte in text {
                guard index < path.upperBound, bytes[index] == byte else { return false }
                index += 1
                if byte == UInt8(ascii: "/") { index = afterSlashes(index) }
            }
        }
        return afterSlashes(index) == path.upperBound
    }

    private func afterSlashes(_ start: Int) -> Int {
        var index = start
        while index < path.upperBound, bytes[index] == UInt8(ascii: "/") { index += 1 }
        return index
    }

    /// The values of a field, in order; `name` is in lower case.
    package func values(of name: String) -> Values {
        let (text, all, wanted) = (bytes.span, fields.span, name.utf8.span)
        for index in all.indices where text.extracting(all[index].name).isEqual(to: wanted) {
            return Values(bytes: bytes, fields: fields, name: name, index: index)
        }
        // Most requests have none of the fields that are asked for, and then nothing is referred to.
        return Values(bytes: [], fields: [], name: "", index: 0)
    }

    /// The values of one field.
    package struct Values: Sequence, IteratorProtocol {
        // Not the head, whose other parts would be copied.
        private let bytes: [UInt8]
        private let fields: [Field]
        private let name: String
        private var index: Int

        fileprivate init(bytes: [UInt8], fields: [Field], name: String, index: Int) {
            (self.bytes, self.fields, self.name, self.index) = (bytes, fields, name, index)
        }

        package mutating func next() -> ArraySlice<UInt8>? {
            index = nextPlace
            guard index < fields.count else { return nil }
            defer { index += 1 }
            return bytes[fields[index].value]
        }

        private var nextPlace: Int {
            let (text, wanted) = (bytes.span, name.utf8.span)
            return (index..<fields.count).first { text.extracting(fields[$0].name).isEqual(to: wanted) } ?? fields.count
        }
    }

    /// The first value of a field.
    package func value(of name: String) -> ArraySlice<UInt8>? {
        let (text, wanted) = (bytes.span, name.utf8.span)
        for field in fields where text.extracting(field.name).isEqual(to: wanted) { return bytes[field.value] }
        return nil
    }
}

extension Span<UInt8> {
    /// Whether these are the bytes of a text.
    func isEqual(to text: String) -> Bool { isEqual(to: text.utf8.span) }

    /// Whether both are the same bytes.
    func isEqual(to other: Span<UInt8>) -> Bool {
        guard count == other.count else { return false }
        for index in indices where self[index] != other[index] { return false }
        return true
    }
}
