/// A request's query string, read pair by pair.
struct QueryString {
    /// Invalid percent-encoding, with its text.
    struct Malformed: Error, Equatable {
        let text: String
    }

    private let bytes: ArraySlice<UInt8>

    init(_ bytes: ArraySlice<UInt8>) { self.bytes = bytes }

    /// The undecoded value of the first parameter with that name; nil when there is none.
    func raw(_ name: String) -> ArraySlice<UInt8>? {
        for pair in bytes.split(separator: UInt8(ascii: "&")) {
            let equals = pair.firstIndex(of: UInt8(ascii: "=")) ?? pair.endIndex
            guard pair[..<equals].elementsEqual(name.utf8) else { continue }
            return equals == pair.endIndex ? [] : pair[(equals + 1)...]
        }
        return nil
    }

    /// The decoded value of the first parameter with that name: `+` is a space, `%41` is `A`.
    func value(_ name: String) throws(Malformed) -> [UInt8]? {
        guard let raw = raw(name) else { return nil }
        var decoded: [UInt8] = []
        decoded.reserveCapacity(raw.count)
        var index = raw.startIndex
        while index < raw.endIndex {
            switch raw[index] {
            case UInt8(ascii: "+"): decoded.append(32)
            case UInt8(ascii: "%"):
                let digits = String(decoding: raw[index...].dropFirst().prefix(2), as: UTF8.self)
                guard digits.utf8.count == 2, digits.utf8.allSatisfy({ $0 != 43 && $0 != 45 }), let byte = UInt8(digits, radix: 16)
                else { throw Malformed(text: String(decoding: raw[index...].prefix(3), as: UTF8.self)) }
                decoded.append(byte)
                index += 2
            default: decoded.append(raw[index])
            }
            index += 1
        }
        return decoded
    }

    /// The decoded value of the first parameter with that name; nil when there is none, or it is malformed or not UTF-8.
    func text(_ name: String) -> String? {
        guard let bytes = try? value(name) else { return nil }
        return String(validating: bytes, as: UTF8.self)
    }
}
