import ConfigJSON
import Testing

@testable import Gateway

@Suite("Environment variables in a config")
struct EnvironmentReferencesTests {
    private static let variables: [String: [UInt8]] = [
        "HOST": Array("127.0.0.1".utf8), "PORT": Array("9999".utf8), "EMPTY": [], "ON": Array("true".utf8), "_a1": Array("under".utf8),
        "QUOTED": Array("a\"b\\c\n".utf8), "NESTED": Array("${HOST} $${".utf8), "BROKEN": [0xFF], "SECRET": Array("hunter2".utf8),
    ]

    /// Parses and expands JSON, and returns its text and the problems with their positions.
    private static func expand(_ json: String) -> (text: String?, problems: [String]) {
        let problems = Problems()
        let value = JSONParser.parse(Array(json.utf8), dialect: .relaxed, problems: problems)
        let expanded = value?.expanded({ variables[$0] }, problems: problems)
        return (expanded?.text, problems.list.map { "\($0.position?.line ?? 0):\($0.position?.column ?? 0): \($0)" })
    }

    @Test(
        "A reference in any string value is replaced once, and all other text stays",
        arguments: [
            (#""${HOST}""#, #""127.0.0.1""#), (#""http://${HOST}:${PORT}/x""#, #""http://127.0.0.1:9999/x""#), (#""${_a1}""#, #""under""#),
            (#"["${PORT}", {"a": "${ON}"}]"#, #"["9999",{"a":"true"}]"#), (#"{"${PORT}": 1}"#, #"{"${PORT}":1}"#),
            // The inserted value is not expanded again.
            (#""${NESTED}""#, #""${HOST} $${""#), (#""${QUOTED}""#, #""a\"b\\c\n""#),
            // The default is used for a variable that is not set or empty.
            (#""${NONE:-x}""#, #""x""#), (#""${EMPTY:-x}""#, #""x""#), (#""${HOST:-x}""#, #""127.0.0.1""#), (#""${NONE:-}""#, #""""#),
            (#""${EMPTY}""#, #""""#), (#""${NONE:-a:-b $c {}""#, #""a:-b $c {""#),
            // A dollar that begins no reference stays a dollar.
            (#""$""#, #""$""#), (#""$HOST $$ a$""#, #""$HOST $$ a$""#), (#""$${HOST}""#, #""${HOST}""#), (#""$$${HOST}""#, #""$${HOST}""#),
            (#""$${""#, #""${""#), (#""{HOST} }""#, #""{HOST} }""#),
            // References are replaced after JSON's escapes.
            (#""\u0024{PORT}""#, #""9999""#), (#""$\u007bPORT}""#, #""9999""#), (#""${\u0050ORT}""#, #""9999""#),
        ])
    func expanded(json: String, expected: String) {
        let (text, problems) = Self.expand(json)
        #expect(text == expected)
        #expect(problems == [])
    }

    @Test(
        "A reference that cannot be replaced is a problem that names the variable and shows no other text",
        arguments: [
            (#""${NONE}""#, "1:1: the environment variable NONE is not set"),
            ("{\n  \"a\": [1, \"x${NONE}\"]}", "2:12: a[1]: the environment variable NONE is not set"),
            (#"{"a b": "${BROKEN}"}"#, #"1:9: ["a b"]: the environment variable BROKEN is not valid UTF-8"#),
            (#""hunter2${""#, "1:1: holds \"${\" without"), (#""${HOST""#, "1:1: holds \"${\" without"),
            (#""${}""#, "1:1: holds a \"${\" that is neither"), (#""hunter2${1A}""#, "1:1: holds a \"${\" that is neither"),
            (#""${A-b}""#, "1:1: holds a \"${\" that is neither"), (#""${hunter2 }""#, "1:1: holds a \"${\" that is neither"),
            (#""${A:?hunter2}""#, "1:1: holds a \"${\" that is neither"), (#""${:-hunter2}""#, "1:1: holds a \"${\" that is neither"),
            (#""${ä}""#, "1:1: holds a \"${\" that is neither"), ("\"${\u{301}HOST}\"", "1:1: holds a \"${\" that is neither"),
            (#""${HOST:-${PORT}}""#, "1:1: holds a default of ${HOST} with another reference"),
        ])
    func refused(json: String, problem: String) {
        let (_, problems) = Self.expand(json)
        #expect(problems.count == 1)
        #expect(problems.first?.hasPrefix(problem) == true, "\(problems)")
        #expect(problems.first?.contains("hunter2") == false)
    }

    // MARK: In the config

    /// Reads a config with these members; those of the listener begin on line 4.
    private static func read(_ listener: String, receiver: String = "", top: String = "") -> ConfigFile {
        let text = """
            {
            \(top)
            "receive_http": {"l": {"forward_to": ["r"],
            \(listener)
            }}, "receivers": {"r": {"plugin": "P",
            \(receiver)
            }}}
            """
        return ConfigFile(path: "g.json", text: Array(text.utf8), environment: { variables[$0] })
    }

    @Test("A string that is exactly one reference may give a number or a boolean")
    func typed() throws {
        let file = Self.read(
            #""http": {"listen_address": "${HOST}", "listen_port": "${PORT}", "conn_limit": "${NONE:-7}"}, "dedup_window": "${ON}""#,
            receiver:
                #""required": "${NONE:-false}", "queue": {"max_bytes": "${PORT}", "max_profiles": "${PORT}", "max_age": "${NONE:-5m}"}"#)
        #expect(file.lines == [])
        let (listener, receiver) = (try #require(file.config.listeners.first), try #require(file.config.receivers.first))
        #expect((listener.http.address, listener.http.port, listener.http.connLimit) == ("127.0.0.1", 9999, 7))
        #expect(listener.dedupWindow == .seconds(300))
        #expect((receiver.required, receiver.queue.maxBytes, receiver.queue.maxProfiles) == (false, 9999, 9999))
        #expect(receiver.queue.maxAge == .seconds(300))
    }

    @Test(
        "A plain string, a reference with text beside it or a value of the wrong kind is refused without the variable's value",
        arguments: [
            (#""http": {"conn_limit": "9999"}"#, #"4:24: receive_http.l.http.conn_limit: must be a whole number, 0 or more, is "9999""#),
            (
                #""http": {"conn_limit": "${PORT}0"}"#,
                #"4:24: receive_http.l.http.conn_limit: must be a whole number, 0 or more, is what the environment says for "${PORT}0""#
            ),
            (
                #""http": {"conn_limit": "${SECRET}"}"#,
                #"4:24: receive_http.l.http.conn_limit: must be a whole number, 0 or more, is what the environment says for "${SECRET}""#
            ),
            (
                #""http": {"conn_limit": "${ON}"}"#,
                #"4:24: receive_http.l.http.conn_limit: must be a whole number, 0 or more, is what the environment says for "${ON}""#
            ),
            (
                #""ack": "${SECRET}""#,
                #"4:8: receive_http.l.ack: must be "queued" or "delivered", is what the environment says for "${SECRET}""#
            ),
            (
                #""dedup_window": "${SECRET}""#,
                #"4:17: receive_http.l.dedup_window: must be true, false or a duration such as "5m", longer than 0, is what the environment says for "${SECRET}""#
            ),
        ])
    func wrongKind(members: String, line: String) {
        #expect(Self.read(members).lines == ["g.json:\(line)"])
    }

    @Test("An unset variable is one problem, whatever its value would be used for")
    func unset() {
        let members = #""http": {"listen_address": "${NONE}", "listen_port": "${NONE}"}, "ack": "${NONE}", "dedup_window": "${NONE}""#
        let file = Self.read(members, receiver: #""config": {"a": {"b": ["${NONE}"]}}"#)
        let paths = [
            "receive_http.l.http.listen_address", "receive_http.l.http.listen_port", "receive_http.l.ack", "receive_http.l.dedup_window",
        ]
        #expect(file.problems.map(\.path) == paths + ["receivers.r.config.a.b[0]"])
        #expect(file.problems == file.unresolved)
        #expect(file.problems.allSatisfy { $0.message == "the environment variable NONE is not set, and no default is given" })
        #expect(file.problems.last?.position == TextPosition(line: 6, column: 24))
    }

    @Test("Two unknown ports do not count as the same port")
    func unknownPorts() {
        let listener = #"{"forward_to": ["r"], "http": {"listen_port": "${NONE}"}}"#
        let text = #"{"receive_http": {"a": \#(listener), "b": \#(listener)}, "receivers": {"r": {"plugin": "P"}}}"#
        let file = ConfigFile(path: "g.json", text: Array(text.utf8), environment: { _ in nil })
        #expect(file.problems.map(\.path) == ["receive_http.a.http.listen_port", "receive_http.b.http.listen_port"])
    }

    @Test("A plugin gets its config as strict JSON, and the paths of strings that are exactly one reference")
    func pluginConfig() throws {
        let receiver = try #require(
            Self.read("", receiver: #""config": {"a": "${QUOTED}", "b": [{"c": "${PORT}"}, "x${PORT}"], "d": "$HOST"}"#).config.receivers
                .first)
        #expect(receiver.pluginConfig.text == #"{"a":"a\"b\\c\n","b":[{"c":"9999"},"x9999"],"d":"$HOST"}"#)
        #expect(receiver.pluginConfig.wholeReferences == ["a", "b[0].c"])
    }

    @Test("A command ignores unset variables in members that it does not need")
    func needed() {
        let file = Self.read(#""ack": "${NONE}", "http": {"conn_limit": -1}"#, top: #""data_dir": "${NONE}","#)
        #expect(file.problems.map(\.path) == ["data_dir", "receive_http.l.ack", "receive_http.l.http.conn_limit"])
        #expect(file.problems { $0 == "data_dir" }.map(\.path) == ["data_dir", "receive_http.l.http.conn_limit"])
        #expect(file.problems { _ in false }.map(\.path) == ["receive_http.l.http.conn_limit"])
    }
}
