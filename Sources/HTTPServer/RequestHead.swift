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
    var fields: [Field] = []
    package var framing = Framing.length(0)
    /// True when the connection may carry another request after this one.
    var keepsAlive = true
    var expectsContinue = false
    /// Whether the answer has no body (RFC 9110 §9.3.2).
    var isHEAD = false
    var minorVersion: UInt8 = 1

    /// The bytes of one part.
    package subscript(range: Range<Int>) -> ArraySlice<UInt8> { bytes[range] }

    package func equals(_ range: Range<Int>, _ text: String) -> Bool {
        bytes.span.extracting(range).isEqual(to: text)
    }

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
        return Values()
    }

    /// The values of one field.
    package struct Values: Sequence, IteratorProtocol {
        /// The bytes and fields that are searched; nil when no field has the name, as in most requests. The whole head is not kept, because
        /// its other parts would be copied.
        private let searched: (bytes: [UInt8], fields: [Field], name: String)?
        private var index = 0

        fileprivate init() { searched = nil }

        fileprivate init(bytes: [UInt8], fields: [Field], name: String, index: Int) {
            (searched, self.index) = ((bytes, fields, name), index)
        }

        package mutating func next() -> ArraySlice<UInt8>? {
            guard let searched else { return nil }
            let (text, wanted) = (searched.bytes.span, searched.name.utf8.span)
            while index < searched.fields.count {
                let field = searched.fields[index]
                index += 1
                if text.extracting(field.name).isEqual(to: wanted) { return searched.bytes[field.value] }
            }
            return nil
        }
    }

    /// Passes each field with one of several names, which are in lower case, to `body`, in the order of the names.
    package func forEachField<E>(named names: [String], _ body: (String, ArraySlice<UInt8>) throws(E) -> Void) throws(E) {
        let (text, all) = (bytes.span, fields.span)
        for name in names {
            let wanted = name.utf8.span
            for index in all.indices where text.extracting(all[index].name).isEqual(to: wanted) { try body(name, bytes[all[index].value]) }
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
