/// Finds a part of a `multipart/form-data` body, in which some SDKs send their profile beside its settings (RFC 7578).
enum MultipartPart {
    /// The most parts that are looked at.
    private static let mostParts = 16
    private static let longestHead = 8192

    /// The content of the part with a name; nil when there is none, or the body is malformed before it.
    static func content(named name: String, in body: [UInt8], contentType: String) -> ArraySlice<UInt8>? {
        guard let boundary = parameter("boundary", of: contentType), !boundary.isEmpty, boundary.utf8.count <= 70 else { return nil }
        let delimiter = Array("--\(boundary)".utf8)
        guard body.starts(with: delimiter) || body.starts(with: [13, 10] + delimiter) else { return nil }
        guard var rest = after(delimiter, in: body[...])?.rest else { return nil }
        for _ in 0..<mostParts {
            guard rest.starts(with: [13, 10]), let (head, content) = after([13, 10, 13, 10], in: rest), head.count <= longestHead,
                let (part, next) = after([13, 10] + delimiter, in: content)
            else { return nil }
            if isNamed(name, String(decoding: head, as: UTF8.self)) { return part }
            rest = next
        }
        return nil
    }

    private static func isNamed(_ name: String, _ head: String) -> Bool {
        head.split(separator: "\r\n").contains { line in
            line.lowercased().hasPrefix("content-disposition:") && parameter("name", of: String(line)) == name
        }
    }

    /// A parameter's value, with or without quotes.
    private static func parameter(_ name: String, of field: String) -> String? {
        for piece in field.split(separator: ";").dropFirst() {
            let piece = piece.drop { $0 == " " || $0 == "\t" }
            guard let equals = piece.firstIndex(of: "="), piece[..<equals].lowercased() == name else { continue }
            let value = piece[piece.index(after: equals)...]
            return value.hasPrefix("\"") ? String(value.dropFirst().prefix { $0 != "\"" }) : String(value.prefix { $0 != " " })
        }
        return nil
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
