import ConfigJSON
import LinuxSystem
import Testing

@testable import Gateway
@testable import HTTPServer
@testable import TestSupport

@Suite("What a check of the config finds before a start")
struct ConfigAdviceTests {
    // MARK: Addresses

    @Test(
        "An address that some machine could listen at is accepted",
        arguments: [
            "", "0.0.0.0", "127.0.0.1", "192.0.2.1", "::", "::1", "fe80::1%eth9", "::ffff:1.2.3.4", "localhost", "gw-1.example.com",
            "gw_1.internal.", "a1", "127.1", String(repeating: "a", count: 63),
        ])
    func goodAddress(address: String) {
        #expect(ListenAddress.objection(to: address) == nil)
    }

    @Test(
        "An address that no machine could listen at is refused",
        arguments: [
            ("*", "all interfaces"), ("127.0.0.1:80", "has a port"), ("host:80", "has a port"),
            (":8080", "has a port"), ("[::]", "brackets"), ("[::1]:80", "brackets"), ("unix:///run/x", "URL"),
            ("unix:", "names no file"), ("unix:@x", "abstract"),
            ("unix:/run/", "names no file"), ("./x.sock", "Unix socket"), ("@x", "Unix socket"), ("https://x", "URL"),
            (" ::1", "white space"),
            ("a b", "white space"), ("::1\n", "white space"), ("1::2::3", "no IPv6 address"), ("300.1.1.1", "neither"),
            ("1.2.3.4.5", "neither"),
            ("-a", "neither"), ("a..b", "neither"), (".", "neither"), ("hö", "neither"), (String(repeating: "a", count: 64), "neither"),
        ])
    func badAddress(address: String, words: String) {
        #expect(ListenAddress.objection(to: address)?.contains(words) == true, "\(ListenAddress.objection(to: address) ?? "taken")")
    }

    @Test(
        "Two listeners cannot have the same port of the same address",
        arguments: [
            ("127.0.0.1", "127.0.0.1", true), ("", "127.0.0.1", true), ("::1", "", true), ("::", "0.0.0.0", true),
            ("0.0.0.0", "10.0.0.1", true),
            ("Host", "host", true), ("127.0.0.1", "127.0.0.2", false), ("0.0.0.0", "::1", false), ("a", "b", false),
        ])
    func overlap(a: String, b: String, isRefused: Bool) {
        /// The problems of a config with two listeners on these ports.
        func lines(_ ports: (Int, Int)) -> [String] {
            func listener(_ address: String, _ port: Int) -> String {
                #"{"forward_to": ["r"], "http": {"listen_address": "\#(address)", "listen_port": \#(port)}}"#
            }
            let text =
                #"{"admin": null, "receive_http": {"a": \#(listener(a, ports.0)), "b": \#(listener(b, ports.1))}, "receivers": {"r": {"plugin": "P"}}}"#
            return ConfigFile(path: "g", text: Array(text.utf8)).problems.map(\.description)
        }
        #expect(lines((80, 80)) == (isRefused ? ["receive_http.b: wants port 80, as receive_http.a does"] : []))
        #expect(lines((80, 81)) == [] && lines((0, 0)) == [])
    }

    @Test(
        "Credentials without tls give a warning, except on a loopback address",
        arguments: [
            ("", true), ("0.0.0.0", true), ("10.1.2.3", true), ("host", true), ("127.0.0.1", false), ("127.9.9.9", false),
            ("::1", false), ("localhost", false), ("::ffff:127.0.0.1", false),
        ])
    func clearCredentials(address: String, isWarned: Bool) {
        for (members, secures) in [
            (#""bearer_tokens_file": "t""#, false), (#""basic": {"users_file": "u"}"#, false), (#""bearer_tokens_file": "t""#, true),
        ] {
            let tls = secures ? #""tls": {"cert_file": "c", "key_file": "k"},"# : ""
            let text =
                #"{"receive_http": {"l": {"http": {"listen_address": "\#(address)"}, \#(tls) "auth": {\#(members)}, "forward_to": ["r"]}}, "receivers": {"r": {"plugin": "P"}}}"#
            let file = ConfigFile(path: "g", text: Array(text.utf8))
            #expect(file.problems == [])
            #expect(file.warnings.map(\.path) == (isWarned && !secures ? ["receive_http.l.auth"] : []))
        }
    }

    // MARK: The disk

    @Test(
        "Queues that may outgrow their disk give a warning",
        arguments: [
            // The disk has 100 bytes, and 10 of them stay free.
            ("", 45, false), ("", 46, true), (#""max_bytes": 90,"#, 1000, false), (#""max_bytes": 91,"#, 1000, true),
            (#""max_bytes": 1000,"#, 45, false), ("", Int.max, true),
        ])
    func diskSpace(spool: String, each: Int, isWarned: Bool) {
        let queue = #""plugin": "P", "queue": {"max_bytes": \#(each)}"#
        let memory = #""plugin": "P", "queue": {"storage": "memory", "max_bytes": 9000}"#
        let text = """
            {"data_dir": "d", "spool": {\(spool) "min_free_bytes": 10}, "receive_http": {"l": {"forward_to": ["a", "b", "c"]}},
             "receivers": {"a": {\(queue)}, "b": {\(queue)}, "c": {\(memory)}}}
            """
        let file = ConfigFile(path: "g", text: Array(text.utf8), space: { $0 == "d" ? 100 : nil })
        #expect(file.problems == [])
        #expect(file.warnings.map(\.path) == (isWarned ? ["data_dir"] : []))
        #expect(file.warnings.allSatisfy { $0.position == TextPosition(line: 1, column: 14) })
        #expect(ConfigFile(path: "g", text: Array(text.utf8), space: { _ in nil }).warnings == [])
    }

    @Test("A missing folder is on the disk of its nearest parent")
    func nearestParent() throws {
        let folder = try TestFolder()
        let total = try OpenFolder(folder.path).space().total
        for path in [folder.path, "\(folder.path)/", "\(folder.path)/a/b/c", "\(folder.path)//a//b"] {
            #expect(DiskSpace.total(of: path) == total)
        }
        #expect(DiskSpace.total(of: "/none") != nil && DiskSpace.total(of: "none/x") != nil)
    }

    // MARK: Secrets

    /// Writes a file with a secret, and returns it as a member of the config.
    private func source(_ bytes: [UInt8], _ folder: borrowing TestFolder, mode: UInt32 = 0o600) throws -> (ConfigSource, file: String) {
        let file = try folder.file("secret-\(UInt64.random(in: 0...(.max)))", mode: mode)
        try FileDescriptor.open(file, 1).writeAll(bytes.span.bytes)
        return (ConfigSource(content: .file(file), path: "m", position: nil), file)
    }

    @Test(
        "White space at the end of a secret's file is removed",
        arguments: ["hunter2", "hunter2\n", "hunter2\r\n", "hunter2 \t\n\n", "hunter2\u{b}", "hunter2\u{a0}"])
    func secret(text: String) throws {
        let folder = try TestFolder()
        #expect(try source(Array(text.utf8), folder).0.secret() == "hunter2")
    }

    @Test("White space within a secret stays") func blankWithin() throws {
        let folder = try TestFolder()
        #expect(try source(Array("hun ter2\n".utf8), folder).0.secret() == "hun ter2")
    }

    private static let badSecrets: [([UInt8], String)] = [
        ([], "is empty"), (Array(" \r\n".utf8), "is empty"), (Array(" hunter2".utf8), "begins with white space"),
        (Array("\u{a0}hunter2".utf8), "begins with white space"), (Array("\thunter2".utf8), "holds a control character"),
        (Array("hunter2\nother\n".utf8), "has more than one line"), (Array("\nhunter2".utf8), "has more than one line"),
        (Array("hunter2\rother".utf8), "has more than one line"), (Array("hunter2\0".utf8), "holds a NUL"),
        (Array("hun\u{1b}ter2".utf8), "holds a control character"), (Array("hunter2\u{7f}x".utf8), "holds a control character"),
        ([0xEF, 0xBB, 0xBF] + Array("hunter2".utf8), "begins with a byte order mark"),
        ([0xFF, 0xFE, 0x68, 0], "begins with a byte order mark"),
        ([0xFE, 0xFF, 0, 0x68], "begins with a byte order mark"), (Array("hunter2".utf8) + [0xE4], "is not valid UTF-8"),
    ]

    @Test("The error for a file that is no valid secret names the file, and shows nothing of it", arguments: badSecrets)
    func badSecret(bytes: [UInt8], words: String) throws {
        let folder = try TestFolder()
        let (source, file) = try source(bytes, folder)
        let error = #expect(throws: Problem.self) { try source.secret() }
        #expect(error?.path == "m")
        #expect(error?.message.hasPrefix("\(file) \(words)") == true, "\(error?.message ?? "")")
        #expect(error?.message.contains("hun") == false)
    }

    @Test(
        "A secret in the config is checked in the same way, but nothing is removed",
        arguments: [
            ("", "is empty"), (" hunter2", "begins with white space"), ("hunter2 ", "ends with white space"),
            ("hunter2\n", "holds a control character"), ("\u{feff}hunter2", "begins with a byte order mark"),
        ])
    func badText(text: String, words: String) {
        let source = ConfigSource(content: .text(text), path: "m", position: nil)
        let error = #expect(throws: Problem.self) { try source.secret() }
        #expect(error?.message.hasPrefix(words) == true)
    }

    @Test("A file of secrets has no byte order mark, and its lines no white space at the beginning and no control character")
    func lines() throws {
        let folder = try TestFolder()
        for (text, message) in [
            ("\u{feff}a\nb", "byte order mark"), ("a\n b", "line 2: begins with white space"),
            ("a\nb\0", "line 2: holds a control character"),
            ("a\tb", "line 1: holds a control character"),
        ] {
            let source = try source(Array(text.utf8), folder).0
            let error = #expect(throws: Problem.self) { try source.lines() }
            #expect(error?.message.contains(message) == true)
        }
        #expect(try source(Array("#\u{1} x\n\r\na b\r\nc".utf8), folder).0.lines().map(\.text) == ["a b", "c"])
    }

    @Test(
        "A secret's file that others may access gives a warning",
        arguments: [(0o600, false), (0o640, false), (0o660, false), (0o604, true), (0o644, true), (0o602, true), (0o601, true)])
    func mode(mode: Int, isWarned: Bool) throws {
        let folder = try TestFolder()
        let file = try folder.file("key", "x", mode: UInt32(mode))
        let text = #"{"cert_file": "c", "key_file": "\#(file)"}"#
        let (problems, warnings) = (Problems(), Problems())
        let value = try #require(JSONParser.parse(Array(text.utf8), dialect: .strict, problems: problems))
        _ = TLSConfig(ConfigObject(value, path: "tls", problems: problems, warnings: warnings))
        #expect(problems.list == [])
        let expected = "\(file) holds a secret and is open to others (mode \(String(mode, radix: 8)))"
        #expect(warnings.list.map(\.message) == (isWarned ? [expected] : []))
    }
}
