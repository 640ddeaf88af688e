import LinuxSystem

/// Finds a part of a `multipart/form-data` body, in which some SDKs send their profile beside its settings (RFC 7578).
enum MultipartPart {
    /// The most parts that are looked at.
    private static let mostParts = 16
    /// The most bytes of a part's head, from the boundary to the empty line.
    private static let longestHead = 8192
    /// The most bytes of a boundary (RFC 2046, 5.1.1).
    private static let longestBoundary = 70

    /// The content of the part with a name; nil when there is none, or the body is malformed before it.
    static func content(named name: String, in body: [UInt8], contentType: String) -> ArraySlice<UInt8>? {
        let type = Array(contentType.utf8)
        guard let boundary = parameter("boundary", of: type[...]), 1...longestBoundary ~= boundary.count else { return nil }
        let delimiter = [45, 45] + boundary
        guard body.starts(with: delimiter) || body.starts(with: [13, 10] + delimiter) else { return nil }
        guard var rest = after(delimiter, in: body[...])?.rest else { return nil }
        for _ in 0..<mostParts {
            guard rest.starts(with: [13, 10]), let (head, content) = after([13, 10, 13, 10], in: rest), head.count <= longestHead,
                let (part, next) = after([13, 10] + delimiter, in: content)
            else { return nil }
            if isNamed(name, head) { return part }
            rest = next
        }
        return nil
    }

    private static func isNamed(_ name: String, _ head: ArraySlice<UInt8>) -> Bool {
        head.split { $0 == 13 || $0 == 10 }.contains { line in
            guard let colon = line.firstIndex(of: UInt8(ascii: ":")), isText(line[..<colon], "content-disposition") else { return false }
            return parameter("name", of: line)?.elementsEqual(name.utf8) == true
        }
    }

    /// A parameter's value, with or without quotes; what stands between quotes, such as a file's name, is no parameter.
    private static func parameter(_ name: String, of field: ArraySlice<UInt8>) -> ArraySlice<UInt8>? {
        let (quote, backslash) = (UInt8(ascii: "\""), UInt8(ascii: "\\"))
        var (isQuoted, isEscaped) = (false, false)
        let pieces = field.split { byte in
            if byte == quote, !isEscaped { isQuoted.toggle() }
            isEscaped = isQuoted && !isEscaped && byte == backslash
            return byte == UInt8(ascii: ";") && !isQuoted
        }
        for piece in pieces.dropFirst() {
            let piece = piece.drop { $0 == 32 || $0 == 9 }
            guard let equals = piece.firstIndex(of: UInt8(ascii: "=")), isText(piece[..<equals], name) else { continue }
            let value = piece[(equals + 1)...]
            return value.first == quote ? value.dropFirst().prefix { $0 != quote } : value.prefix { $0 != 32 && $0 != 9 }
        }
        return nil
    }

    /// Whether bytes are a text in lower case, whatever their own case is.
    private static func isText(_ bytes: ArraySlice<UInt8>, _ text: String) -> Bool {
        bytes.lazy.map(\.lowercased).elementsEqual(text.utf8)
    }

    /// Divides bytes at the first occurrence of others.
    private static func after(_ wanted: [UInt8], in bytes: ArraySlice<UInt8>) -> (before: ArraySlice<UInt8>, rest: ArraySlice<UInt8>)? {
        guard let first = wanted.first else { return nil }
        var place = bytes.startIndex
        while let found = bytes[place...].firstIndex(of: first) {
            if bytes[found...].starts(with: wanted) { return (bytes[..<found], bytes[(found + wanted.count)...]) }
            place = found + 1
        }
        return nil
    }
}
