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
        text.utf8.count == range.count && bytes[range].elementsEqual(text.utf8)
    }

    /// The values of a field, in order; `name` is in lower case.
    package func values(of name: String) -> Values { Values(head: self, name: name) }

    /// The values of one field.
    package struct Values: Sequence, IteratorProtocol {
        fileprivate let head: RequestHead
        fileprivate let name: String
        private var index = 0

        fileprivate init(head: RequestHead, name: String) { (self.head, self.name) = (head, name) }

        package mutating func next() -> ArraySlice<UInt8>? {
            while index < head.fields.count {
                let field = head.fields[index]
                index += 1
                if head.equals(field.name, name) { return head.bytes[field.value] }
            }
            return nil
        }
    }

    /// The first value of a field.
    package func value(of name: String) -> ArraySlice<UInt8>? {
        fields.first { equals($0.name, name) }.map { bytes[$0.value] }
    }
}
