import LinuxSystem
import Testing

@testable import HTTPServer

@Suite("base64")
struct Base64Tests {
    /// The decoded text, or nil when it is not base64.
    private static func decoded(_ text: String, after start: String = "") -> [UInt8]? {
        var buffer = ByteBuffer()
        do throws(SystemError) {
            try buffer.append(Array(start.utf8).span.bytes)
            try Base64.decode(Array(text.utf8).span, into: &buffer)
        } catch {
            #expect(error.code == Base64.invalid)
            return nil
        }
        return buffer.withBytes { span in span.withUnsafeBytes { Array($0) } }
    }

    /// The test vectors of RFC 4648 §10.
    static let vectors = [
        ("", ""), ("Zg==", "f"), ("Zm8=", "fo"), ("Zm9v", "foo"), ("Zm9vYg==", "foob"), ("Zm9vYmE=", "fooba"), ("Zm9vYmFy", "foobar"),
    ]

    static let invalid = [
        "=", "==", "===", "====", "A", "A=", "A==", "A===", "AA=", "AAA==", "AAAA=", "AAAA==", "AAAA====", "AA==AA==", "AA=A", "=AAA",
        "Zg= =",
        "Zg==\n", " Zg==", "Zm9v Zg==", "Zm*v", "Zm9\0", "Zm9\u{e9}",
    ]

    @Test("The vectors of RFC 4648 decode, padded or not", arguments: vectors)
    func vector(text: String, expected: String) {
        #expect(Self.decoded(text) == Array(expected.utf8))
        #expect(Self.decoded(text.filter { $0 != "=" }) == Array(expected.utf8))
    }

    @Test("All digits of both alphabets have the right value")
    func alphabets() {
        let digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
        let expected: [UInt8] = (0..<16).flatMap { group -> [UInt8] in
            let bits = (0..<4).reduce(UInt32(0)) { $0 << 6 | UInt32(group * 4 + $1) }
            return [UInt8(bits >> 16), UInt8(bits >> 8 & 0xFF), UInt8(bits & 0xFF)]
        }
        #expect(Self.decoded(digits + "+/") == expected)
        #expect(Self.decoded(digits + "-_") == expected)
    }

    @Test("Text that is not base64 is refused", arguments: invalid)
    func refuses(text: String) { #expect(Self.decoded(text) == nil) }

    @Test("Decoding appends to the content of the buffer")
    func appends() { #expect(Self.decoded("Zm9v", after: "x") == Array("xfoo".utf8)) }

    @Test("Every byte that is not a digit is refused")
    func otherBytes() {
        let digits = Set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_".utf8)
        for byte in UInt8.min...UInt8.max {
            var buffer = ByteBuffer()
            let isTaken = (try? Base64.decode([65, byte, 65, 65].span, into: &buffer)) != nil
            #expect(isTaken == digits.contains(byte), "\(byte)")
        }
    }
}
