/// The parameters of a request's query string, which is split once.
package struct QueryString {
    /// Invalid percent-encoding, with its text.
    package struct Malformed: Error, Equatable {
        package let text: String
    }

    private struct Parameter {
        let name: Range<Int>
        let value: Range<Int>
    }

    private let bytes: ArraySlice<UInt8>
    /// The first parameters, which are all that an SDK sends; an array for them would be allocated for each request.
    private var first = InlineArray<8, Parameter>(repeating: Parameter(name: 0..<0, value: 0..<0))
    private var more: [Parameter] = []
    private var count = 0

    package init(_ bytes: ArraySlice<UInt8>) {
        self.bytes = bytes
        guard !bytes.isEmpty else { return }
        var start = bytes.startIndex
        var equals: Int?
        for index in bytes.indices {
            switch bytes[index] {
            case UInt8(ascii: "="): equals = equals ?? index
            case UInt8(ascii: "&"):
                add(start..<index, equals)
                (start, equals) = (index + 1, nil)
            default: break
            }
        }
        add(start..<bytes.endIndex, equals)
    }

    private mutating func add(_ pair: Range<Int>, _ equals: Int?) {
        guard !pair.isEmpty else { return }
        let end = equals ?? pair.upperBound
        let parameter = Parameter(name: pair.lowerBound..<end, value: min(end + 1, pair.upperBound)..<pair.upperBound)
        if count < first.count { first[count] = parameter } else { more.append(parameter) }
        count += 1
    }

    /// The undecoded value of the first parameter with that name; nil when there is none.
    package func raw(_ name: String) -> ArraySlice<UInt8>? {
        let (span, start) = (bytes.span, bytes.startIndex)
        for index in 0..<count {
            let parameter = index < first.count ? first[index] : more[index - first.count]
            let place = (parameter.name.lowerBound - start)..<(parameter.name.upperBound - start)
            if span.extracting(place).isEqual(to: name) { return bytes[parameter.value] }
        }
        return nil
    }

    /// The decoded value of the first parameter with that name; nil when there is none.
    package func value(_ name: String) throws(Malformed) -> ArraySlice<UInt8>? {
        guard let raw = raw(name) else { return nil }
        return try Self.decoded(raw)
    }

    /// Decodes a value: `+` is a space, `%41` is `A`.
    package static func decoded(_ raw: ArraySlice<UInt8>) throws(Malformed) -> ArraySlice<UInt8> {
        guard let escape = raw.firstIndex(where: { $0 == UInt8(ascii: "+") || $0 == UInt8(ascii: "%") }) else { return raw }
        var decoded: [UInt8] = []
        decoded.reserveCapacity(raw.count)
        decoded += raw[..<escape]
        var index = escape
        while index < raw.endIndex {
            switch raw[index] {
            case UInt8(ascii: "+"): decoded.append(32)
            case UInt8(ascii: "%"):
                let digits = raw[(index + 1)...].prefix(2)
                guard digits.count == 2, let high = digit(digits.first), let low = digit(digits.last) else {
                    throw Malformed(text: String(decoding: raw[index...].prefix(3), as: UTF8.self))
                }
                decoded.append(high << 4 | low)
                index += 2
            default: decoded.append(raw[index])
            }
            index += 1
        }
        return decoded[...]
    }

    private static func digit(_ byte: UInt8?) -> UInt8? {
        switch byte {
        case .some(let byte) where 48...57 ~= byte: byte - 48
        case .some(let byte) where 65...70 ~= byte & 0xDF: (byte & 0xDF) - 55
        default: nil
        }
    }

    /// The decoded value of the first parameter with that name; nil when there is none, or it is malformed or not UTF-8.
    package func text(_ name: String) -> String? {
        guard let bytes = try? value(name), let text = try? UTF8Span(validating: bytes.span) else { return nil }
        return String(copying: text)
    }
}
