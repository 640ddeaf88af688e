import ConfigJSON
import LinuxSystem
import ProfileArchive
import Testing

@testable import Gateway
@testable import HTTPServer
@testable import ProfileAPI
@testable import Receivers
@testable import Telemetry
@testable import TestSupport

@Suite("Reading the config")
struct ConfigReaderTests {
    /// A place in the config for a snippet; the raw value is the snippet's line.
    enum Section: Int {
        case top = 2, http = 4, listener = 6, queue = 9, retry = 11, receiver = 13

        /// A whole config with the snippet at this place.
        func text(_ snippet: String) -> String {
            func at(_ section: Section) -> String { section == self ? snippet : "" }
            return """
                {
                \(at(.top))
                "receive_http": {"l": {"forward_to": ["r"], "http": {
                \(at(.http))
                },
                \(at(.listener))
                }},
                "receivers": {"r": {"plugin": "P", "queue": {
                \(at(.queue))
                }, "retry": {
                \(at(.retry))
                },
                \(at(.receiver))
                }},
                }
                """
        }
    }

    private static func read(_ text: String) -> ConfigFile { ConfigFile(path: "g.json", text: Array(text.utf8)) }

    // MARK: Defaults

    @Test("Everything that a config leaves out has the documented default")
    func defaults() throws {
        let file = Self.read(#"{"receive_http": {"l": {"forward_to": ["r"]}}, "receivers": {"r": {"plugin": "P"}}}"#)
        #expect(file.lines.isEmpty)
        #expect(file.config.admin == AdminConfig(http: HTTPConfig(address: "127.0.0.1", port: 12345, connLimit: 256)))
        #expect(file.config.log == Log.Settings(level: .info, format: .logfmt))
        #expect(file.config.limits == Limits(maxBodySize: 67_108_864, maxDecompressedSize: 268_435_456, maxInFlightBytes: 536_870_912))
        #expect(file.config.deadLetters == DeadLetterConfig(maxBytes: 1_073_741_824, maxAge: .seconds(604_800)))
        #expect((file.config.shutdownDelay, file.config.shutdownTimeout) == (.zero, .seconds(30)))
        #expect(file.config.pluginDirs.isEmpty)
        let listener = try #require(file.config.listeners.first)
        #expect((listener.name, listener.forwardTo) == ("l", ["r"]))
        #expect(listener.keepHeaders == ["traceparent", "tracestate", "uber-trace-id", "user-agent"])
        #expect((listener.http.address, listener.http.port, listener.http.connLimit) == ("", 8080, 16384))
        #expect(
            [listener.http.readTimeout, listener.http.writeTimeout, listener.http.idleTimeout] == [
                .seconds(30), .seconds(30), .seconds(120),
            ])
    }

    @Test("Everything that a receiver leaves out has the documented default")
    func receiverDefaults() throws {
        let receiver = try #require(Self.read(Section.top.text("")).config.receivers.first)
        #expect((receiver.name, receiver.plugin, receiver.pluginConfig.text, receiver.required) == ("r", "P", "{}", true))
        #expect((receiver.queue.maxBytes, receiver.queue.maxProfiles, receiver.queue.maxAge) == (67_108_864, 100_000, nil))
        #expect(receiver.retry == RetryPolicy(minimum: .milliseconds(500), maximum: .seconds(30), retries: 0))
        #expect((receiver.maxInFlight, receiver.deliveryTimeout) == (64, .seconds(60)))
    }

    // MARK: Values

    @Test("Every member is read")
    func everything() throws {
        let file = Self.read(
            """
            {
              "admin": {"listen_address": "::1", "listen_port": 0}, "log": {"level": "debug", "format": "json"},
              "plugin_dirs": ["/a", "/b"], "shutdown_delay": "10s", "shutdown_timeout": "5m", "loops": 64,
              "dead_letters": {"max_bytes": "2GiB", "max_age": "1d", "file_mode": "0600", "directory_mode": "770"},
              "limits": {"max_body_size": 1, "max_decompressed_size": "2KiB", "max_in_flight_bytes": "1.5MiB",
                         "max_in_flight_bytes_per_sender": "5KiB"},
              "receive_http": {"l": {
                "http": {"listen_address": "h", "listen_port": 65535, "conn_limit": 0,
                         "server_read_timeout": "1s", "server_write_timeout": "2s", "server_idle_timeout": "3s",
                         "max_connection_age": "4m"},
                "keep_headers": ["X-A"], "ack": "queued", "forward_to": ["b", "a"]}},
              "receivers": {
                "a": {"plugin": "./x.so", "config": {"z": 1, "y": [2]}, "required": false, "max_in_flight": 1, "delivery_timeout": "1ms"},
                "b": {"plugin": "P",
                      "queue": {"storage": "memory", "max_bytes": 5, "max_profiles": 1, "max_age": "50m", "on_full": "drop_oldest"},
                      "required_at_start": true,
                      "retry": {"min_backoff_period": "1s", "max_backoff_period": "1s", "max_backoff_retries": 2,
                                "max_retry_after": "1h", "reject_after_refusals": 0, "reject_after_period": "2h"}}},
            }
            """)
        let config = file.config
        #expect(file.lines.isEmpty)
        #expect(config.admin == AdminConfig(http: HTTPConfig(address: "::1", port: 0, connLimit: 256), hosts: ["::1"]))
        #expect(config.log == Log.Settings(level: .debug, format: .json))
        #expect((config.pluginDirs, config.shutdownDelay, config.shutdownTimeout) == (["/a", "/b"], .seconds(10), .seconds(300)))
        #expect(config.loops == 64)
        #expect(
            config.limits == Limits(maxBodySize: 1, maxDecompressedSize: 2048, maxInFlightBytes: 1_572_864, maxInFlightBytesPerSender: 5120)
        )
        #expect((config.deadLetters.maxBytes, config.deadLetters.maxAge) == (2_147_483_648, .seconds(86_400)))
        #expect(config.deadLetters.modes.file == FileMode(0o600, isExact: true))
        #expect(config.deadLetters.modes.directory == FileMode(0o770, isExact: true))
        let http = HTTPConfig(
            address: "h", port: 65535, connLimit: 0, readTimeout: .seconds(1), writeTimeout: .seconds(2), idleTimeout: .seconds(3),
            maximumConnectionAge: .seconds(240))
        let listener = try #require(config.listeners.first)
        #expect(listener.http == http)
        #expect((listener.keepHeaders, listener.forwardTo) == (["x-a"], ["b", "a"]))
        let (a, b) = (try #require(config.receivers.first), try #require(config.receivers.last))
        #expect((a.plugin, a.pluginConfig.text, a.required, a.maxInFlight) == ("./x.so", #"{"z":1,"y":[2]}"#, false, 1))
        #expect(a.deliveryTimeout == .milliseconds(1))
        #expect((b.queue.maxBytes, b.queue.maxProfiles, b.queue.maxAge) == (5, 1, .seconds(3000)))
        #expect(
            b.retry
                == RetryPolicy(
                    minimum: .seconds(1), maximum: .seconds(1), retries: 2, longestRetryAfter: .seconds(3600), refusalsUntilRejected: 0,
                    refusedFor: .seconds(7200)))
        #expect(b.requiredAtStart)
    }

    @Test(
        "dedup_window is off, on with five minutes, or the duration that is given",
        arguments: [("", nil), ("false", nil), ("true", 300_000), (#""1h30m""#, 5_400_000), (#""1ms""#, 1)] as [(String, Int?)])
    func dedupWindow(text: String, milliseconds: Int?) throws {
        let file = Self.read(Section.listener.text(text.isEmpty ? "" : "\"dedup_window\": \(text)"))
        #expect(file.config.listeners.first?.dedupWindow == milliseconds.map { .milliseconds($0) })
        #expect(!file.lines.contains { $0.contains("dedup_window") })
    }

    @Test(
        "Headers that carry secrets are kept only with keep_secrets",
        arguments: [
            "authorization", "Proxy-Authorization", "Cookie", "set-cookie", "X-API-Key", "ApiKey", "X-Auth-Key", "X-Vault-Token",
            "X-Amz-Security-Token", "X-Client-Secret", "X-Session-Id",
        ])
    func secretHeaders(name: String) throws {
        let kept = "\"keep_headers\": [\"x-a\", \"\(name)\"]"
        let refused = Self.read(Section.listener.text(kept))
        #expect(refused.lines.count == 1)
        #expect(refused.lines.first?.contains("receive_http.l.keep_headers: \"\(name.lowercased())\" carries a secret") == true)
        let allowed = Self.read(Section.listener.text(kept + ", \"keep_secrets\": true"))
        #expect(allowed.lines.isEmpty)
        #expect(allowed.config.listeners.first?.keepHeaders == ["x-a", name.lowercased()])
    }

    @Test("Other headers may be kept, and keep_secrets may be given without them")
    func plainHeaders() {
        let names = ["user-agent", "traceparent", "x-request-id", "x-scope-orgid", "x-forwarded-for", "accept", "origin"]
        let kept = "\"keep_headers\": [\(names.map { "\"\($0)\"" }.joined(separator: ", "))]"
        #expect(Self.read(Section.listener.text(kept)).lines.isEmpty)
        #expect(Self.read(Section.listener.text("\"keep_secrets\": false")).lines.isEmpty)
    }

    @Test(
        "A mode of dead letters is an octal string that gives the gateway access, and makes no file executable or world-writable",
        arguments: [
            ("file_mode", "\"0640\"", nil), ("file_mode", "\"0600\"", nil), ("file_mode", "\"666\"", "lets everybody write: \"666\""),
            ("directory_mode", "\"0700\"", nil), ("directory_mode", "\"775\"", nil),
            ("directory_mode", "\"0777\"", "lets everybody write: \"0777\""), ("file_mode", "640", "must be a string, is 640"),
            ("file_mode", "\"0648\"", "must be an octal number such as \"0640\", at most \"0777\", is \"0648\""),
            ("directory_mode", "\"1000\"", "must be an octal number such as \"0750\", at most \"0777\", is \"1000\""),
            ("directory_mode", "\"2750\"", "must be an octal number"), ("file_mode", "\"64\"", "must be an octal number"),
            ("file_mode", "\"00640\"", "must be an octal number"), ("file_mode", "\"rw-r-----\"", "must be an octal number"),
            ("file_mode", "\"\"", "must be an octal number"), ("file_mode", "\"0440\"", "would keep the gateway itself out: \"0440\""),
            ("directory_mode", "\"0600\"", "would keep the gateway itself out"), ("file_mode", "\"0750\"", "makes files executable"),
        ] as [(String, String, String?)])
    func modes(name: String, value: String, problem: String?) {
        let lines = Self.read(Section.top.text("\"dead_letters\": {\"\(name)\": \(value)},")).lines
        #expect(lines.count == (problem == nil ? 0 : 1))
        if let problem { #expect(lines.first?.contains("dead_letters.\(name): \(problem)") == true, "\(lines)") }
    }

    @Test("null turns the admin listener off")
    func noAdmin() {
        let file = Self.read(Section.top.text(#""admin": null,"#))
        #expect(file.config.admin == nil)
        #expect(file.lines.isEmpty)
    }

    @Test(
        "Bodies are kept for the page by default where only this machine reaches it",
        arguments: [
            (#"{}"#, true), (#"{"listen_address": "127.0.0.9"}"#, true), (#"{"listen_address": "localhost"}"#, true),
            (#"{"listen_address": "0.0.0.0"}"#, false), (#"{"listen_address": ""}"#, false), (#"{"listen_address": "10.0.0.1"}"#, false),
            (#"{"listen_address": "10.0.0.1", "show_profiles": true}"#, true), (#"{"show_profiles": false}"#, false),
        ])
    func showsProfiles(admin: String, shows: Bool) {
        let file = Self.read(Section.top.text(#""admin": \#(admin),"#))
        #expect(file.config.admin?.recent.keepsBodies == shows)
        #expect(file.config.admin?.recent.profiles == 200 && file.config.admin?.recent.bytes == 8 << 20)
        #expect(file.lines.isEmpty)
    }

    @Test(
        "The bounds of recent profiles are read at, below and above their limits",
        arguments: [
            (#"{"profiles": 0}"#, nil), (#"{"profiles": 10000}"#, nil), (#"{"bytes": 0}"#, nil), (#"{"bytes": "1GiB"}"#, nil),
            (#"{"profiles": 10001}"#, "admin.recent.profiles: must be"), (#"{"profiles": -1}"#, "admin.recent.profiles: must be"),
            (#"{"bytes": 1073741825}"#, "admin.recent.bytes: must be"), (#"{"count": 1}"#, "admin.recent.count: unknown"),
        ] as [(String, String?)])
    func recent(bounds: String, problem: String?) {
        let lines = Self.read(Section.top.text(#""admin": {"recent": \#(bounds)},"#)).lines
        #expect(lines.isEmpty == (problem == nil), "\(lines)")
        if let problem { #expect(lines.first?.contains(problem) == true, "\(lines)") }
    }

    // MARK: Problems

    static let unknown: [(Section, String, String)] = [
        (.top, #""recievers": {},"#, "2:1: recievers: unknown; did you mean receivers?"),
        (.top, #""colour": 1,"#, "2:1: colour: unknown"),
        (.top, #""admin": {"port": 1},"#, "2:11: admin.port: unknown"),
        (.top, #""log": {"levle": 1},"#, "2:9: log.levle: unknown; did you mean level?"),
        (.top, #""limits": {"max_body": 1},"#, "2:12: limits.max_body: unknown"),
        (.top, #""dead_letter": {},"#, "2:1: dead_letter: unknown; did you mean dead_letters?"),
        (.top, #""dead_letters": {"max_byte": 1},"#, "2:18: dead_letters.max_byte: unknown; did you mean max_bytes?"),
        (.http, #""listen_prot": 1"#, "4:1: receive_http.l.http.listen_prot: unknown; did you mean listen_port?"),
        (.listener, #""forward-to": []"#, "6:1: receive_http.l.forward-to: unknown; did you mean forward_to?"),
        (.receiver, #""odd.name": 1"#, #"13:1: receivers.r["odd.name"]: unknown"#),
        (.queue, #""max_byte": 1"#, "9:1: receivers.r.queue.max_byte: unknown; did you mean max_bytes?"),
        (.retry, #""max_backof_retries": 1"#, "11:1: receivers.r.retry.max_backof_retries: unknown; did you mean max_backoff_retries?"),
        (.http, #""listen_port": 1, "listen_port": 2"#, "4:19: receive_http.l.http.listen_port: appears twice in one object"),
        (.top, #""admin": {}, "admin": null,"#, "2:14: admin: appears twice in one object"),
    ]

    private static let aWindow = #"must be true, false or a duration such as "5m", longer than 0"#

    static let wrongType: [(Section, String, String)] = [
        (.top, #""admin": 5,"#, "2:10: admin: must be an object, is a number"),
        (.top, #""admin": {"listen_address": 5},"#, "2:29: admin.listen_address: must be a string, is 5"),
        (.top, #""dead_letters": null,"#, "2:17: dead_letters: must be an object, is null"),
        (.top, #""log": [],"#, "2:8: log: must be an object, is an array"),
        (.top, #""log": {"level": "loud"},"#, #"2:18: log.level: must be "debug" or "info" or "warning" or "error", is "loud""#),
        (.top, #""log": {"format": 1},"#, #"2:19: log.format: must be "logfmt" or "json", is 1"#),
        (.top, #""plugin_dirs": "/a","#, #"2:16: plugin_dirs: must be an array of strings, is "/a""#),
        (.top, #""plugin_dirs": ["/a", 1],"#, "2:16: plugin_dirs: must be an array of strings, is an array"),
        (.top, #""plugin_dirs": null,"#, "2:16: plugin_dirs: must be an array of strings, is null"),
        (.listener, #""ack": true"#, #"6:8: receive_http.l.ack: must be "queued" or "delivered", is true"#),
        (.listener, #""ack": "maybe""#, #"6:8: receive_http.l.ack: must be "queued" or "delivered", is "maybe""#),
        (.listener, #""keep_headers": ["X-A", "b c"]"#, #"6:17: receive_http.l.keep_headers: "b c" is no header name"#),
        (.listener, #""dedup_window": 300"#, "6:17: receive_http.l.dedup_window: \(aWindow), is 300"),
        (.listener, #""dedup_window": "0s""#, "6:17: receive_http.l.dedup_window: \(aWindow), is \"0s\""),
        (.listener, #""dedup_window": "soon""#, "6:17: receive_http.l.dedup_window: \(aWindow), is \"soon\""),
        (.listener, #""dedup_window": null"#, "6:17: receive_http.l.dedup_window: \(aWindow), is null"),
        (.listener, #""dedup_window": ["5m"]"#, "6:17: receive_http.l.dedup_window: \(aWindow), is an array"),
        (.listener, #""dedup_windows": true"#, "6:1: receive_http.l.dedup_windows: unknown; did you mean dedup_window?"),
        (.receiver, #""required": "yes""#, #"13:13: receivers.r.required: must be true or false, is "yes""#),
        (.receiver, #""config": [1]"#, "13:11: receivers.r.config: must be an object, is an array"),
        (.receiver, #""config": null"#, "13:11: receivers.r.config: must be an object, is null"),
        (.queue, #""storage": "tape""#, #"9:12: receivers.r.queue.storage: must be "memory" or "disk", is "tape""#),
        (.queue, #""on_full": "panic""#, #"9:12: receivers.r.queue.on_full: must be "drop_oldest" or "reject", is "panic""#),
    ]

    static let numbers: [(Section, String, String)] = [
        (.http, #""listen_port": 65536"#, "4:16: receive_http.l.http.listen_port: must be a whole number, 0 to 65535, is 65536"),
        (.http, #""listen_port": -1"#, "4:16: receive_http.l.http.listen_port: must be a whole number, 0 to 65535, is -1"),
        (.http, #""listen_port": "80""#, #"4:16: receive_http.l.http.listen_port: must be a whole number, 0 to 65535, is "80""#),
        (.http, #""conn_limit": 1.5"#, "4:15: receive_http.l.http.conn_limit: must be a whole number, 0 or more, is 1.5"),
        (.http, #""conn_limit": 1e3"#, "4:15: receive_http.l.http.conn_limit: must be a whole number, 0 or more, is 1e3"),
        (
            .http, #""conn_limit": 9223372036854775808"#,
            "4:15: receive_http.l.http.conn_limit: must be a whole number, 0 or more, is 9223372036854775808"
        ),
        (.receiver, #""max_in_flight": 0"#, "13:18: receivers.r.max_in_flight: must be a whole number, 1 to 65536, is 0"),
        (.receiver, #""max_in_flight": 65537"#, "13:18: receivers.r.max_in_flight: must be a whole number, 1 to 65536, is 65537"),
        (.queue, #""max_profiles": 0"#, "9:17: receivers.r.queue.max_profiles: must be a whole number, 1 to 2147483647, is 0"),
        (
            .queue, #""max_profiles": 2147483648"#,
            "9:17: receivers.r.queue.max_profiles: must be a whole number, 1 to 2147483647, is 2147483648"
        ),
        (
            .retry, #""reject_after_refusals": -1"#,
            "11:26: receivers.r.retry.reject_after_refusals: must be a whole number, 0 or more, is -1"
        ),
        (
            .retry, #""max_retry_after": "0s""#,
            #"11:20: receivers.r.retry.max_retry_after: must be a duration such as "30s", longer than 0, is "0s""#
        ),
        (.retry, #""max_backoff_retries": -1"#, "11:24: receivers.r.retry.max_backoff_retries: must be a whole number, 0 or more, is -1"),
    ]

    private static let aDuration = #"must be a duration such as "30s", longer than 0"#
    private static let aSize = #"must be a size such as "64MiB" or a number of bytes, more than 0"#

    static let units: [(Section, String, String)] = [
        (.top, #""shutdown_timeout": "0s","#, "2:21: shutdown_timeout: \(aDuration), is \"0s\""),
        (.top, #""shutdown_delay": "-1s","#, #"2:19: shutdown_delay: must be a duration such as "30s", is "-1s""#),
        (.top, #""loops": 0,"#, "2:10: loops: must be a whole number, 1 to 64, is 0"),
        (.top, #""loops": 65,"#, "2:10: loops: must be a whole number, 1 to 64, is 65"),
        (.http, #""server_read_timeout": 30"#, "4:24: receive_http.l.http.server_read_timeout: \(aDuration), is 30"),
        (.http, #""server_idle_timeout": "-5s""#, "4:24: receive_http.l.http.server_idle_timeout: \(aDuration), is \"-5s\""),
        (
            .http, #""max_connection_age": "-1s""#,
            #"4:23: receive_http.l.http.max_connection_age: must be a duration such as "30s", is "-1s""#
        ),
        (.receiver, #""delivery_timeout": "soon""#, "13:21: receivers.r.delivery_timeout: \(aDuration), is \"soon\""),
        (.queue, #""max_age": "50 m""#, "9:12: receivers.r.queue.max_age: \(aDuration), is \"50 m\""),
        (.queue, #""max_bytes": 0"#, "9:14: receivers.r.queue.max_bytes: \(aSize), is 0"),
        (.queue, #""max_bytes": -1"#, "9:14: receivers.r.queue.max_bytes: \(aSize), is -1"),
        (.queue, #""max_bytes": "64Mi""#, "9:14: receivers.r.queue.max_bytes: \(aSize), is \"64Mi\""),
        (.top, #""dead_letters": {"max_bytes": 0},"#, "2:31: dead_letters.max_bytes: \(aSize), is 0"),
        (.top, #""dead_letters": {"max_age": 7},"#, "2:29: dead_letters.max_age: \(aDuration), is 7"),
        (.top, #""limits": {"max_body_size": "3GiB"},"#, "2:29: limits.max_body_size: \(aSize) and at most 2147483648, is \"3GiB\""),
        (.top, #""limits": {"max_body_size": {}},"#, "2:29: limits.max_body_size: \(aSize) and at most 2147483648, is an object"),
        (
            .top, #""limits": {"max_body_size": "8388608TiB"},"#,
            "2:29: limits.max_body_size: \(aSize) and at most 2147483648, is \"8388608TiB\""
        ),
        (
            .retry, #""min_backoff_period": "2s", "max_backoff_period": "1s""#,
            "11:51: receivers.r.retry.max_backoff_period: must not be shorter than min_backoff_period"
        ),
        (
            .retry, #""max_backoff_period": "499ms""#,
            "11:23: receivers.r.retry.max_backoff_period: must not be shorter than min_backoff_period"
        ),
        (
            .retry, #""min_backoff_period": "31s""#,
            "10:13: receivers.r.retry.max_backoff_period: must not be shorter than min_backoff_period"
        ),
    ]

    static let spool: [(Section, String, String)] = [
        (.top, #""data_dir": "","#, "2:13: data_dir: must name a folder"),
        (.top, #""spool": {},"#, "2:10: spool: needs data_dir"),
        (
            .top, #""data_dir": "d", "spool": {"sync": "often"},"#,
            "2:36: spool.sync: must be \"always\" or \"interval\" or \"never\", is \"often\""
        ),
        (.top, #""data_dir": "d", "spool": {"sync_interval": "1s"},"#, "2:45: spool.sync_interval: goes with sync: \"interval\""),
        (
            .top, #""data_dir": "d", "spool": {"segment_bytes": 65535},"#,
            "2:45: spool.segment_bytes: must be at least 64KiB, is 65535 bytes"
        ),
        (
            .top, #""data_dir": "d", "spool": {"segment_bytes": 67108865},"#,
            "2:45: spool.segment_bytes: must be a size such as \"64MiB\" or a number of bytes, more than 0 and at most 67108864, is 67108865"
        ),
        (.queue, #""storage": "disk""#, "9:12: receivers.r.queue.storage: \"disk\" needs data_dir"),
    ]

    @Test(
        "A problem is one line with file, line, column, path and message",
        arguments: [unknown, wrongType, numbers, units, spool])
    func problem(table: [(Section, String, String)]) {
        for (section, snippet, line) in table { #expect(Self.read(section.text(snippet)).lines == ["g.json:\(line)"], "\(snippet)") }
    }

    @Test(
        "Values at their bounds are accepted",
        arguments: [
            (Section.http, #""listen_port": 65535, "conn_limit": 9223372036854775807"#), (.receiver, #""max_in_flight": 65536"#),
            (.queue, #""max_profiles": 2147483647, "max_bytes": 1, "max_age": "1ns""#), (.retry, #""min_backoff_period": "30s""#),
            (.retry, #""max_backoff_period": "500ms", "max_backoff_retries": 0"#), (.top, #""shutdown_timeout": "1ns","#),
            (.top, #""dead_letters": {"max_bytes": 1, "max_age": "1ns"},"#),
        ])
    func bounds(section: Section, snippet: String) {
        #expect(Self.read(section.text(snippet)).lines.isEmpty)
    }

    @Test(
        "forward_to must name existing receivers, each once",
        arguments: [
            (#"["a", "prodution"]"#, [#"2:41: receive_http.l.forward_to[1]: no receiver is named "prodution"; did you mean production?"#]),
            (#"["a", "zzz", "production"]"#, [#"2:41: receive_http.l.forward_to[1]: no receiver is named "zzz""#]),
            (#"["a", "production", "a"]"#, [#"2:55: receive_http.l.forward_to[2]: names "a" twice"#]),
            (#"["production"]"#, ["3:15: warning: receivers.a: no listener forwards to it"]),
        ])
    func forwardTo(targets: String, lines: [String]) {
        let file = Self.read(
            """
            {
            "receive_http":{"l":{"forward_to":\(targets)}},
            "receivers": {"a": {"plugin": "P"}, "production": {"plugin": "P"}}}
            """)
        #expect(file.lines.filter { !$0.contains("production: no listener") } == lines.map { "g.json:\($0)" })
    }

    @Test(
        "A missing required member is reported at the object that lacks it",
        arguments: [
            ("{}", ["1:1: receive_http: must name at least one listener", "1:1: receivers: must name at least one receiver"]),
            (
                #"{"receive_http": {}, "receivers": {}}"#,
                ["1:18: receive_http: must name at least one listener", "1:35: receivers: must name at least one receiver"]
            ),
            (
                #"{"receive_http": {"l": {}}, "receivers": {"r": {}}}"#,
                [
                    "1:24: receive_http.l.forward_to: must name at least one receiver",
                    "1:48: receivers.r.plugin: is required: a plugin's name or a path ending in .so",
                    "1:43: warning: receivers.r: no listener forwards to it",
                ]
            ),
            (
                #"{"receive_http": {"l": {"forward_to": []}}, "receivers": {"r": {"plugin": 5}}}"#,
                [
                    "1:39: receive_http.l.forward_to: must name at least one receiver", "1:75: receivers.r.plugin: must be a string, is 5",
                    "1:59: warning: receivers.r: no listener forwards to it",
                ]
            ),
        ])
    func missing(text: String, lines: [String]) {
        #expect(Self.read(text).lines == lines.map { "g.json:\($0)" })
    }

    @Test(
        "Text that is not JSON is one problem",
        arguments: [
            ("", "1:1: expected a value, found the end of the text"), ("{\n  \"a\" 1}", #"2:7: expected ":", found "1""#),
        ])
    func syntax(text: String, line: String) {
        #expect(Self.read(text).lines == ["g.json:\(line)"])
    }

    @Test(
        "One mistake gives one problem",
        arguments: [
            (#"{"receive_http": 5, "receivers": {"r": {"plugin": "P"}}}"#, "1:18: receive_http: must be an object, is a number"),
            (#"{"receive_http": {"l": {"forward_to": ["r"]}}, "receivers": []}"#, "1:61: receivers: must be an object, is an array"),
            (
                #"{"receive_http": {"l": {"forward_to": "r"}}, "receivers": {"r": {"plugin": "P"}}}"#,
                #"1:39: receive_http.l.forward_to: must be an array of strings, is "r""#
            ),
        ])
    func oneMistake(text: String, line: String) {
        let problems = Self.read(text).lines.filter { !$0.contains(": warning: ") && !$0.contains("no receiver is named") }
        #expect(problems == ["g.json:\(line)"])
    }

    @Test("An empty plugin name is refused")
    func emptyPlugin() {
        let file = Self.read(#"{"receive_http": {"l": {"forward_to": ["r"]}}, "receivers": {"r": {"plugin": ""}}}"#)
        #expect(file.problems.map(\.path) == ["receivers.r.plugin"])
    }

    @Test("All problems are reported together in the order of the text, with warnings last")
    func everythingWrong() {
        let file = Self.read(
            """
            {
              "receivers": {
                "unused": {"plugin": "P"},
                "r": {"plugin": "P", "queue": {"max_bytes": "x"}, "retry": {"max_backoff_retries": 1, "max_backoff_retries": 2}},
              },
              "log": {"level": 5},
              "receive_http": {"l": {"forward_to": ["s"], "http": {"listen_port": 70000}}},
              "bogus": 1,
            }
            """)
        let places = file.lines.map { $0.split(separator: " ", maxSplits: 1)[0].dropFirst("g.json:".count).dropLast() }
        #expect(places == ["4:49", "4:91", "6:20", "7:41", "7:71", "8:3", "3:5", "4:5"])
        #expect(file.problems.count == 6)
        #expect(file.warnings.count == 2)
    }

    // MARK: Files

    @Test("A missing file is a problem without a position")
    func missingFile() throws {
        let folder = try TestFolder()
        let path = "\(folder.path)/none.json"
        #expect(ConfigFile.read(path).lines == ["\(path): cannot read the config: open \(path): No such file or directory"])
    }

    @Test("A file may contain comments and trailing commas")
    func file() throws {
        let folder = try TestFolder()
        let path = try folder.file("g.json", "// mine\n" + Section.top.text("/* all of it */"))
        #expect(ConfigFile.read(path).lines.isEmpty)
        #expect(ConfigFile.read(path).config.receivers.map(\.name) == ["r"])
    }

    @Test("A file larger than any config is refused")
    func largeFile() throws {
        let folder = try TestFolder()
        let path = try folder.file("g.json", String(repeating: " ", count: ConfigFile.maximumSize + 1))
        #expect(ConfigFile.read(path).lines == ["\(path): cannot read the config: read: File too large"])
    }

    @Test("A mutated config gives problems or a config, and no crash")
    func garbage() {
        var random = SeededRandom()
        let seed = Array(Section.queue.text(#""max_bytes": "1KiB", "max_age": "5m""#).utf8)
        for _ in 0..<1000 {
            let file = ConfigFile(path: "g.json", text: random.mutated(seed))
            #expect(!file.problems.isEmpty || !file.config.receivers.isEmpty)
        }
    }
}
