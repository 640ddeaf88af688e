import ConfigJSON
import Testing

@testable import HTTPServer

@Suite("Files of users and tokens")
struct UserListTests {
    private static func source(_ text: String) -> ConfigSource { ConfigSource(content: .text(text), path: "users_file", position: nil) }

    /// The hashes of the password "secret" by libxcrypt, with the lowest cost of each kind.
    static let hashes = [
        "$y$j75$k2XAnEHBqQ1Ct2aMXFKNa/HAmA1BpMnBsYHMWB4NZN4$HDtJcZhEDN4lYyPsFs6qifx7sabk8w1.1PAkGR8ixD6",
        "$gy$j75$k2XAnEHBqQ1Ct2aMXFKNa/HAmA1BpMnBsYHMWB4NZN4$wQ1Nq/4QB56Jl/pbLpHISikj8f6KCgYZgaHVNv6zTC6",
        "$7$BU..../....k2XAnEHBqQ1Ct2aMXFKNa/HAmA1BpMnBsYHMWB4NZN4$9xFFQ/ehzI.fiqOb0dOIHQ7OAxLb1VFQEblfTlG8eHA",
        "$2b$04$KBCwKxOzLha2MUDgW0PjXe/hE/UCO9qF89dOydoHjSwxcHev5LRn.",
        "$2y$04$KBCwKxOzLha2MUDgW0PjXe/hE/UCO9qF89dOydoHjSwxcHev5LRn.",
        "$6$rounds=1000$k2XAnEHBqQ1Ct2aM$Kusx4StgTAJKgtQ8A1Ud4OEtpvLZ/2wzq/Tix/qeeqdrvuTHgR6KFuCyOP4TNp5lvuV.tmBxpDTp10bqrWJyv1",
    ]

    @Test("Only the user's exact password is accepted, with each kind of hash", arguments: hashes)
    func verify(hash: String) throws {
        let users = try UserList(Self.source("# users\r\n\r\nalice:\(hash)\r\nbob:\(Self.hashes[5])\n"))
        #expect(users.verify("alice", Array("secret".utf8)))
        for wrong in ["", "secre", "secrets", "Secret", "secret\0", "secret\0x", String(repeating: "x", count: 4096)] {
            #expect(!users.verify("alice", Array(wrong.utf8)), "\(wrong.prefix(9))")
        }
        #expect(!users.verify("carol", Array("secret".utf8)))
    }

    @Test("A file that names a user twice is refused")
    func twice() {
        let error = #expect(throws: Problem.self) {
            try UserList(Self.source("a:\(Self.hashes[3])\nb:\(Self.hashes[3])\na:\(Self.hashes[4])"))
        }
        #expect(error?.message == "line 3: \"a\" is there twice")
    }

    static let badUsers: [(String, String)] = [
        ("", "names no user"), ("# nobody\n\n", "names no user"), ("alice", "line 1: is not user:hash"),
        (":$6$x", "line 1: is not user:hash"),
        ("#\nbob:secret", "line 2: the hash of \"bob\" is none that is taken: yescrypt $y$, bcrypt $2b$, sha512crypt $6$"),
        ("bob:", "line 1: the hash of \"bob\" is none"), ("bob:$1$abc$0123456789012345678901", "line 1: the hash of \"bob\" is none"),
        ("bob:$apr1$abc$0123456789012345678901", "line 1: the hash of \"bob\" is none"),
        ("bob:{SHA}x", "line 1: the hash of \"bob\" is none"),
        ("bob:$5$rounds=1000$k2XAnEHBqQ1Ct2aM$jgOl0V/Vic8BJZ4wBDLE5hPwrxO8FWvvQqq4b1wm6k0", "line 1: the hash of \"bob\" is none"),
        ("bob:$6$salt$tooshort", "line 1: the hash of \"bob\" is none"),
    ]

    @Test("An invalid file of users is refused with an error that shows no hash", arguments: badUsers)
    func refused(text: String, message: String) {
        let error = #expect(throws: Problem.self) { try UserList(Self.source(text)) }
        #expect(error?.message.hasPrefix(message) == true, "\(error?.message ?? "")")
        for secret in ["secret", "0123456789", "tooshort", "SHA"] { #expect(error?.message.contains(secret) == false) }
    }

    static let badTokens: [(String, String)] = [
        ("", "holds no token"), ("# none\n", "holds no token"), ("good\nbad token", "line 2: is no bearer token"),
        ("a=b", "line 1: is no bearer"),
        ("=", "line 1: is no bearer token"), ("\u{fc}", "line 1: is no bearer token"),
    ]

    @Test("An invalid file of tokens is refused with an error that shows no token", arguments: badTokens)
    func tokens(text: String, message: String) {
        let error = #expect(throws: Problem.self) { try TokenList(Self.source(text)) }
        #expect(error?.message.hasPrefix(message) == true)
        #expect(error?.message.contains("bad token") == false)
    }

    @Test("Only the exact tokens of the file are accepted")
    func contains() throws {
        let list = try TokenList(Self.source("# tokens\r\none-1._~+/\r\n\r\ntwo==\n"))
        for token in ["one-1._~+/", "two=="] { #expect(list.contains(Array(token.utf8))) }
        for token in ["", "one", "two", "two=", "one-1._~+/\r", "# tokens"] { #expect(!list.contains(Array(token.utf8))) }
    }

    static let headers: [(String, Credentials?)] = [
        ("Basic YTpi", .basic(user: "a", password: Array("b".utf8))), ("basic  YTo=", .basic(user: "a", password: [])),
        ("BASIC YTpiOmM=", .basic(user: "a", password: Array("b:c".utf8))), ("Basic YQ==", nil), ("Basic !!", nil), ("Basic", nil),
        ("", nil),
        ("Basic /zpi", nil), ("Bearer t-1", .bearer(Array("t-1".utf8))), ("bearer t", .bearer(Array("t".utf8))), ("Bearer ", nil),
        ("Digest x", nil),
    ]

    @Test("An Authorization header gives its credentials, or nil if it is invalid", arguments: headers)
    func authorization(value: String, credentials: Credentials?) {
        #expect(Credentials(Array(value.utf8)[...]) == credentials)
    }
}
