import PushWire
import Testing

@Suite("Removing secrets from a server's messages")
struct KnownSecretsTests {
    private static func cut(_ text: String, _ secrets: String...) -> String { KnownSecrets(secrets).cut(from: text) }

    @Test(
        "A secret of at least six bytes is removed, and all other text stays",
        arguments: [("vault", "a vault b"), ("vaults", "a [secret] b")])
    func length(secret: String, said: String) {
        #expect(Self.cut("a \(secret) b", secret) == said)
        #expect(Self.cut("nothing of it", secret) == "nothing of it")
        #expect(Self.cut("", secret) == "")
    }

    static let written: [(secret: String, text: String)] = [
        ("p/w+d ä1", "p%2Fw%2Bd%20%C3%A41"), ("p/w+d ä1", "p%2fw%2bd%20%c3%a41"), ("p/w+d ä1", "p/w%2Bd+%C3%A41"),
        ("p/w+d ä1", #"p\/w+d ä1"#), ("p/w+d ä1", #"p\u002fw\u002Bd ä1"#), (#"a"b\c'd"#, #"a\"b\\c'd"#),
        (#"a"b\c'd"#, #"a\u0022b\u005cc\u0027d"#),
        ("50%25off", "50%25off"), ("50%25off", "50%2525off"), ("1+1=two", "1+1=two"), ("one two", "one+two"),
        ("plain-1", "%70%6C%61%69%6e%2d%31"),
    ]

    @Test("A secret is found in plain form, percent-encoded in whole or in part, and escaped as in JSON", arguments: written)
    func escaped(row: (secret: String, text: String)) {
        #expect(Self.cut("<\(row.text)>", row.secret) == "<[secret]>")
        #expect(Self.cut("\(row.text)\(row.text)", row.secret) == "[secret][secret]")
        #expect(Self.cut(String(row.text.dropLast()), row.secret).hasPrefix(String(row.text.prefix(4))), "a part of one is none")
    }

    @Test("A secret in base64 is found at any alignment and in either alphabet", arguments: 0...5, 0...3)
    func encoded(before: Int, after: Int) {
        let secret = "h?nter>2~~/k"
        let text = base64(Array((String(repeating: "q", count: before) + secret + String(repeating: "z", count: after)).utf8))
        for text in [
            text, text.replacing("+", with: "-").replacing("/", with: "_"), text.replacing("=", with: "%3D"), text.filter { $0 != "=" },
        ] {
            let said = Self.cut("to:\(text)", secret)
            #expect(said.hasPrefix("to:") && said.contains("[secret]"), "\(text)")
            // Only the digits of the surrounding bytes are left, and those of a group that they share with the secret.
            let left = said.dropFirst(3).replacing("[secret]", with: "").replacing("%3D", with: "").filter { $0 != "=" }
            #expect(left.count <= (before + after) * 4 / 3 + 3, "\(said)")
        }
    }

    @Test("The longest secret is removed, together with a secret inside it")
    func nested() {
        #expect(Self.cut("Token abcdefgh abcdef", "abcdef", "Token abcdefgh", "abcdefgh") == "[secret] [secret]")
    }

    @Test("The first six or more bytes of a secret at the end of a truncated text count as the secret", arguments: [5, 6, 11, 12])
    func cutShort(count: Int) {
        let secrets = KnownSecrets(["0123456789ab"])
        let text = Array("says \("0123456789ab".prefix(count))".utf8)
        let said = { (bytes: [UInt8]) in String(decoding: bytes, as: UTF8.self) }
        let isFound = count >= KnownSecrets.shortest
        #expect(said(secrets.cut(from: text, most: 100, isCutShort: true)) == (isFound ? "says [secret]" : said(text)))
        #expect(said(secrets.cut(from: text, most: 100)) == (count == 12 ? "says [secret]" : said(text)))
    }

    @Test("The wanted number of bytes is returned, and bytes that are not UTF-8 stay", arguments: [0, 1, 9, 10, 11])
    func most(count: Int) {
        let text = [UInt8](repeating: 0xFF, count: 10) + Array("secret".utf8)
        #expect(KnownSecrets(["secret"]).cut(from: text, most: count).prefix(count).count == count)
        #expect(KnownSecrets(["secret"]).cut(from: text, most: .max) == text.prefix(10) + Array("[secret]".utf8))
    }

    @Test("A secret that can be decoded in very many ways is found quickly")
    func ambiguous() {
        let secret = String(repeating: "%25", count: 400)
        #expect(!Self.cut(String(repeating: "%25", count: 500), secret).hasPrefix("%25"))
        _ = Self.cut(String(repeating: "%2525", count: 2000) + "x", secret)
    }
}
