/// File names made from untrusted text.
public enum FileName {
    /// The longest name that is not shortened, in bytes.
    static let limit = 200

    /// A text as one path component that cannot lead out of its folder: bytes outside `A-Za-z0-9._-` and a leading dot become
    /// `%XX`; a longer name than the limit is cut and ends in the text's hash.
    public static func component(_ text: String, ifEmpty fallback: String) -> String {
        if text.isEmpty { return fallback }
        var name = ""
        for (index, byte) in text.utf8.enumerated() {
            if isPlain(byte), !(index == 0 && byte == UInt8(ascii: ".")) {
                name.unicodeScalars.append(Unicode.Scalar(byte))
            } else {
                let digits = String(byte, radix: 16, uppercase: true)
                name += "%" + (digits.count == 1 ? "0" : "") + digits
            }
        }
        guard name.utf8.count > limit else { return name }
        let hash = SHA256.hex(of: Array(text.utf8)).prefix(32)
        return name.prefix(limit - 33) + "-" + hash
    }

    private static func isPlain(_ byte: UInt8) -> Bool {
        (48...57 ~= byte) || (65...90 ~= byte & 0xDF) || [UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "-")].contains(byte)
    }
}
