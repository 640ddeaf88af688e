/// Reads the fields of one message of protobuf, one after the other.
struct ProtobufFields {
    typealias Problem = ReadProfile.Problem

    /// The value of a field.
    enum Value {
        case number(UInt64)
        /// Where the content of a text, of bytes, of a message or of packed numbers lies.
        case bytes(Range<Int>)
        /// A number of fixed size, which no message of a profile uses.
        case other
    }

    private var index: Int
    private let end: Int
    /// What the message is, for problems.
    private let what: StaticString

    init(_ range: Range<Int>, _ what: StaticString) { (index, end, self.what) = (range.lowerBound, range.upperBound, what) }

    /// Reads the next field; nil at the message's end.
    mutating func next(_ bytes: Span<UInt8>) throws(Problem) -> (number: UInt64, value: Value)? {
        guard index < end else { return nil }
        let start = index
        let tag = try varint(bytes)
        let number = tag >> 3
        guard number > 0 else { throw Problem("\(what) has a field with number 0 at byte \(start)") }
        switch tag & 7 {
        case 0: return (number, .number(try varint(bytes)))
        case 1:
            try advance(8)
            return (number, .other)
        case 2:
            let length = try varint(bytes)
            guard length <= UInt64(end - index) else {
                throw Problem("\(what) has a field at byte \(start) that is \(length) bytes long, which is longer than what is left of it")
            }
            defer { index += Int(length) }
            return (number, .bytes(index..<(index + Int(length))))
        case 5:
            try advance(4)
            return (number, .other)
        default: throw Problem("\(what) has a field of unknown wire type \(tag & 7) at byte \(start)")
        }
    }

    /// Reads one number of a packed list; nil at the list's end.
    mutating func nextNumber(_ bytes: Span<UInt8>) throws(Problem) -> UInt64? { index < end ? try varint(bytes) : nil }

    private mutating func varint(_ bytes: Span<UInt8>) throws(Problem) -> UInt64 {
        var value: UInt64 = 0
        for shift in stride(from: UInt64(0), to: 70, by: 7) {
            guard index < end else { throw Problem("\(what) ends inside a number, at byte \(index)") }
            let byte = bytes[index]
            index += 1
            guard shift < 63 || byte <= 1 else { break }
            value |= UInt64(byte & 0x7F) << shift
            if byte < 0x80 { return value }
        }
        throw Problem("\(what) has a number of more than 64 bits before byte \(index)")
    }

    private mutating func advance(_ count: Int) throws(Problem) {
        guard count <= end - index else { throw Problem("\(what) ends inside a number, at byte \(index)") }
        index += count
    }
}
