import Foundation
import Glibc
import Testing

@testable import TestSupport

@Suite("The command line", .serialized)
struct CommandTests {
    private struct Outcome {
        let status: Int32
        let output: [String]
        let errors: [String]
    }

    /// Runs a command of the gateway.
    private func gateway(_ scenario: Scenario, _ arguments: String...) throws -> Outcome {
        let process = try scenario.start([try Project.builtGateway()] + arguments)
        let status = try process.waitForExit()
        return Outcome(status: status, output: process.output.lines, errors: process.errors.lines)
    }

    /// A valid config, apart from what the arguments add.
    private func config(_ members: String = "", receiver: String = "\"plugin\": \"StdoutSink\"", listener: String = "") -> String {
        """
        {
        \(members)
          "receive_http": { "default": { "http": { "listen_address": "127.0.0.1", "listen_port": 0 }, \(listener) "forward_to": ["sink"] } },
          "receivers": { "sink": { \(receiver) } },
          "admin": { "listen_port": 0 },
        }
        """
    }

    @Test("check finds every problem at once with its position, and exits with 1")
    func brokenConfig() throws {
        try Scenario.run { scenario in
            let file = try scenario.write(
                """
                {
                  // every kind of mistake
                  "admin": { "listen_port": 70000 },
                  "shutdwon_timeout": "30s",
                  "receive_http": {
                    "default": {
                      "http": { "listen_adress": "127.0.0.1", "conn_limit": -1, "server_read_timeout": "soon" },
                      "forward_to": ["stagin", "archive", "archive"],
                    },
                    "empty": {},
                  },
                  "receivers": {
                    "staging": {
                      "plugin": "HTTPWriter",
                      "config": { "endpoint": [{ "url": "http://127.0.0.1" }] },
                      "retry": { "max_backof_retries": 3 },
                      "queue": { "max_bytes": "lots" },
                    },
                    "archive": { "plugin": "FileSink", "config": { "directory": "./archive" } },
                    "console": { "plugin": "StdoutSink" },
                    "console": {},
                  },
                }
                """, to: "broken.json")
            let outcome = try gateway(scenario, "check", "--config", file)
            #expect(outcome.status == 1)
            #expect(outcome.errors == [])
            let expected = """
                :3:29: admin.listen_port: must be a whole number, 0 to 65535, is 70000
                :4:3: shutdwon_timeout: unknown; did you mean shutdown_timeout?
                :7:17: receive_http.default.http.listen_adress: unknown; did you mean listen_address?
                :7:61: receive_http.default.http.conn_limit: must be a whole number, 0 or more, is -1
                :7:88: receive_http.default.http.server_read_timeout: must be a duration such as "30s", longer than 0, is "soon"
                :8:22: receive_http.default.forward_to[0]: no receiver is named "stagin"; did you mean staging?
                :8:43: receive_http.default.forward_to[2]: names "archive" twice
                :10:5: receive_http.empty: wants port 8080, as receive_http.default does
                :10:14: receive_http.empty.forward_to: must name at least one receiver
                :16:18: receivers.staging.retry.max_backof_retries: unknown; did you mean max_backoff_retries?
                :17:31: receivers.staging.queue.max_bytes: must be a size such as "64MiB" or a number of bytes, more than 0, is "lots"
                :21:5: receivers.console: appears twice in one object
                :13:5: warning: receivers.staging: no listener forwards to it
                :20:5: warning: receivers.console: no listener forwards to it
                """
            #expect(outcome.output == expected.split(separator: "\n").map { file + $0 })
            let run = try gateway(scenario, "run", "--config", file)
            #expect(run.status == 1)
            #expect(Set(outcome.output).isSubset(of: Set(run.errors)), "run says the same and does not start")
        }
    }

    @Test("A problem that a plugin finds in its config has the position and path of the member")
    func pluginConfig() throws {
        try Scenario.run { scenario in
            let file = try scenario.write(
                config(
                    receiver: "\n\"plugin\": \"HTTPWriter\",\n\"config\": { \"endpoint\": [{ \"url\": \"ftp://x\" }, { \"uri\": \"y\" }] }"),
                to: "gateway.json")
            let outcome = try gateway(scenario, "check", "--config", file)
            #expect(outcome.status == 1)
            #expect(
                outcome.output == [
                    "\(file):6:35: receivers.sink.config.endpoint[0].url: must begin with http:// or https://",
                    "\(file):6:48: receivers.sink.config.endpoint[1].url: is required: the server to write to",
                    "\(file):6:50: receivers.sink.config.endpoint[1].uri: unknown; did you mean url?",
                ])
        }
    }

    @Test("A required plugin member that is missing without a config is reported at the receiver")
    func absentPluginConfig() throws {
        try Scenario.run { scenario in
            let file = try scenario.write(config(receiver: "\n\"plugin\": \"FileSink\""), to: "gateway.json")
            let outcome = try gateway(scenario, "check", "--config", file)
            #expect(outcome.status == 1)
            #expect(outcome.output.count == 1)
            #expect(outcome.output.first?.contains("directory") == true)
            #expect(outcome.output.first?.hasPrefix("\(file):1:1:") == false)
        }
    }

    @Test("check of a valid config prints ok, exits with 0 and creates no file")
    func goodConfig() throws {
        try Scenario.run { scenario in
            let file = try scenario.write(
                config(receiver: "\"plugin\": \"FileSink\", \"config\": { \"directory\": \"\(scenario.path("archive"))\" }"),
                to: "gateway.json")
            let outcome = try gateway(scenario, "check", "--config", file)
            #expect(outcome.status == 0)
            #expect(outcome.output == ["\(file): ok"])
        }
    }

    @Test("A config that is missing or invalid JSON is reported and exits with 1")
    func unreadableConfig() throws {
        try Scenario.run { scenario in
            let missing = try gateway(scenario, "check", "--config", "none.json")
            #expect(missing.status == 1)
            #expect(missing.output == ["none.json: cannot read the config: open none.json: No such file or directory"])
            for text in ["", "{", "[]", "{ \"a\": [1, }", "\0\0\0", String(repeating: "[", count: 100_000), "{\"a\":\"\\ud800\"}"] {
                try scenario.write(text, to: "gateway.json")
                let outcome = try gateway(scenario, "check")
                #expect(outcome.status == 1, "./gateway.json is the default")
                #expect(outcome.output.first?.hasPrefix("./gateway.json:1:") == true)
            }
        }
    }

    @Test("Wrong usage exits with 2 and is explained on standard error")
    func usage() throws {
        try Scenario.run { scenario in
            for arguments in [
                [], ["bogus"], ["check", "--bogus"], ["check", "word"], ["run", "--config"], ["help", "bogus"], ["version", "x"],
            ] {
                let process = try scenario.start([try Project.builtGateway()] + arguments)
                #expect(try process.waitForExit() == 2, "\(arguments)")
                #expect(process.output.lines == [])
                #expect(!process.errors.lines.isEmpty)
            }
        }
    }

    @Test("version and help print to standard output and exit with 0")
    func versionAndHelp() throws {
        try Scenario.run { scenario in
            let version = try gateway(scenario, "version")
            #expect(version.status == 0)
            #expect(version.output.count == 1)
            #expect(version.output.first?.wholeMatch(of: #/gateway \d+\.\d+\.\d+/#) != nil)
            let help = try gateway(scenario, "help")
            #expect(help.status == 0)
            for command in ["run", "check", "reload", "status", "send", "replay", "profile", "plugins", "version", "help"] {
                #expect(help.output.contains { $0.hasPrefix("  \(command) ") })
                let page = try gateway(scenario, "help", command)
                #expect(page.status == 0)
                #expect(page.output.first?.hasPrefix("usage: gateway \(command)") == true)
            }
        }
    }

    // MARK: Plugins that are not loaded

    /// Builds a plugin from C and returns its path.
    private func build(_ scenario: Scenario, _ source: String, name: String = "libodd.so") throws -> String {
        let file = try scenario.write(source, to: "\(name).c")
        let include = "\(Project.root)/Sources/PluginABI/include"
        let compiler = try scenario.start(["gcc", "-shared", "-fPIC", "-I", include, file, "-o", scenario.path(name)])
        #expect(try compiler.waitForExit() == 0, "\(compiler.errors.lines)")
        return scenario.path(name)
    }

    @Test(
        "A plugin that cannot be loaded stops the start with 1, and check says why",
        arguments: ["missing", "text", "no entry", "declines", "refuses", "writable"])
    func brokenPlugin(_ kind: String) throws {
        try Scenario.run { scenario in
            let (plugin, reason): (String, String) =
                switch kind {
                case "missing": (scenario.path("libnone.so"), "no plugin")
                case "text": (try scenario.write("no library at all, only text of some length", to: "libtext.so"), "not a shared object")
                case "no entry": (try build(scenario, "int something;"), "has no symbol gw_plugin_v1")
                case "declines":
                    (try build(scenario, "#include <stddef.h>\nconst void *gw_plugin_v1(size_t size) { return NULL; }"), "declines")
                case "writable": (try build(scenario, "int something;"), "writable by others")
                default: ("StdoutSink", "must be \"text\" or \"json\"")
                }
            if kind == "writable" { chmod(plugin, 0o777) }
            let file = try scenario.write(
                config(receiver: "\"plugin\": \"\(plugin)\", \"config\": { \"format\": \"xml\" }"), to: "gateway.json")
            let check = try gateway(scenario, "check", "--config", file)
            #expect(check.status == 1)
            #expect(check.output.contains { $0.contains("receivers.sink.") && $0.contains(reason) }, "\(check.output)")
            let run = try gateway(scenario, "run", "--config", file)
            #expect(run.status == 1)
            #expect(run.errors.contains { $0.replacing("\\\"", with: "\"").contains(reason) }, "\(run.errors)")
            #expect(!run.errors.contains { $0.contains("msg=ready") })
        }
    }

    @Test("A port in use stops the start with 1, and the error names the address")
    func portTaken() throws {
        try Scenario.run { scenario in
            let upstream = try Recorder(scenario)
            let text = config().replacing("\"listen_port\": 0 }, ", with: "\"listen_port\": \(upstream.port) }, ")
            let outcome = try gateway(scenario, "run", "--config", try scenario.write(text, to: "gateway.json"))
            #expect(outcome.status == 1)
            #expect(outcome.errors.contains { $0.contains("127.0.0.1:\(upstream.port)") && $0.contains("in use") })
        }
    }
}
