/// Encodes a text as a query parameter's value: all but RFC 3986's unreserved characters become `%XX`.
public func percentEncoded(_ text: String) -> String {
    var result = ""
    for byte in text.utf8 {
        if (48...57 ~= byte) || (65...90 ~= byte & 0xDF) || "-._~".utf8.contains(byte) {
            result.unicodeScalars.append(Unicode.Scalar(byte))
        } else {
            result += (byte < 16 ? "%0" : "%") + String(byte, radix: 16, uppercase: true)
        }
    }
    return result
}
