import Foundation
import Testing

@testable import TestSupport

@Suite("gateway plugin check")
struct PluginCheckTests {
    private struct Line: Decodable {
        let rule, demand, result, seen: String
    }

    /// Checks a plugin, and returns what was seen by rule.
    private static func check(_ path: String, _ config: String? = nil, timeout: String = "10s") throws -> (
        status: Int32, lines: [String: Line]
    ) {
        let ended = try ChildProcess.run(
            [try Project.built("gateway"), "plugin", "check", path, "--json", "--timeout", timeout]
                + (config.map { ["--config", $0] } ?? []))
        let lines = try JSONDecoder().decode([Line].self, from: Data(ended.out.utf8))
        #expect(lines.count == 17)
        return (ended.status, Dictionary(uniqueKeysWithValues: lines.map { ($0.rule, $0) }))
    }

    @Test("The plugins that come with the gateway keep every rule", arguments: ["StdoutSink", "FileSink", "HTTPWriter"])
    func own(name: String) throws {
        let folder = try TestFolder()
        let configs = [
            "FileSink": #"{"directory":"\#(folder.path("archive"))"}"#, "HTTPWriter": #"{"endpoint":[{"url":"http://127.0.0.1:9"}]}"#,
        ]
        let (status, lines) = try Self.check(try Project.built("lib\(name).so"), configs[name])
        #expect(status == 0)
        // They have neither a probe nor a schema, and StdoutSink has no members.
        let notTried = ["wrong-members", "probe", "schema"]
        for line in lines.values { #expect(line.result == "pass" || notTried.contains(line.rule), "\(line)") }
    }

    @Test("A C plugin of version 1.0 keeps the rules that it can")
    func old() throws {
        let folder = try TestFolder()
        let path = try CPlugin.build("stages.c", as: folder.path("libold.so"), first: ["-I", "\(Project.pluginSources)/v1.0"])
        let (_, lines) = try Self.check(path)
        #expect(lines["load"]?.seen == "stages 1.0.0, interface 1.0")
        for rule in ["start", "drain"] { #expect(lines[rule]?.result == "not tried") }
        for rule in ["symbols", "create", "deliveries", "flush", "abort", "two-instances", "process-state", "leaks", "isolation"] {
            #expect(lines[rule]?.result == "pass", "\(String(describing: lines[rule]))")
        }
    }

    @Test(
        "What a plugin does wrong fails the rule, with what was seen, and the others are still tried",
        arguments: [
            ("crasher.c", "at once", "create", "ended by SIGABRT; the last step was: create"),
            ("misbehaving.c", "finish twice", "deliveries", "finished twice"),
            ("misbehaving.c", "never finish", "deliveries", "a small profile was not finished in time"),
            ("misbehaving.c", "never finish", "abort", "50 of 50 deliveries were open a second after abort"),
            ("misbehaving.c", "status 99", "flush", "status 99, which does not exist"),
            ("misbehaving.c", "no outcome", "deliveries", "an outcome that is NULL"),
            ("misbehaving.c", "take signals", "create", "SIGPIPE, SIGXFSZ"),
            ("misbehaving.c", "never finish flush", "flush", "1 operations were not finished in time"),
            ("misbehaving.c", "move in deliver", "process-state", "changed: working directory, umask 0"),
            ("misbehaving.c", "nothing odd", "unknown-member", "a config with an unknown member is taken"),
            ("stages.c", "\"batch\":100", "deliveries", "was not finished in time"),
        ])
    func sins(source: String, deed: String, rule: String, seen: String) throws {
        let folder = try TestFolder()
        let path = try CPlugin.build(source, as: folder.path("libodd.so"))
        let config = deed.hasPrefix("\"") ? "{\(deed)}" : #"{"do":"\#(deed)"}"#
        let (status, lines) = try Self.check(path, config, timeout: Project.isSanitized ? "5s" : "2s")
        #expect(status == 1)
        #expect(lines[rule]?.result == "fail" && lines[rule]?.seen.contains(seen) == true, "\(String(describing: lines[rule]))")
        #expect(lines["load"]?.result == "pass" && lines["symbols"]?.result == "pass")
    }

    @Test(
        "Descriptors and threads that each instance leaves are counted, and those that a few make once are no leak",
        arguments: [(2000, "after three more instances: 3 more descriptors, 3 more threads"), (4, "as many as before")])
    func leaks(count: Int, told: String) throws {
        let folder = try TestFolder()
        let source = try folder.write(
            "leak.c",
            """
            #include <fcntl.h>
            #include <pthread.h>
            #include <unistd.h>
            #include "PluginABI.h"
            static int made;
            static void *wait_for_ever(void *none) { for (;;) pause(); return none; }
            static void *create(const gw_host *host, gw_slice config, gw_error *error) {
                pthread_t thread;
                (void)config, (void)error;
                if (made++ < LEAKS) {
                    (void)!open("/dev/null", O_RDONLY | O_CLOEXEC);
                    pthread_create(&thread, NULL, wait_for_ever, NULL);
                }
                return (void *)host;
            }
            static void finish(const gw_host *host, void *token) {
                host->finish(host->context, token, &(gw_outcome){.size = sizeof(gw_outcome), .status = GW_STATUS_DELIVERED});
            }
            static void deliver(void *host, const gw_profile *profile, const gw_delivery *delivery) { (void)profile, finish(host, delivery->token); }
            static void nothing(void *host) { (void)host; }
            static const gw_plugin plugin = {.size = sizeof plugin, .name = {(const uint8_t *)"leak", 4}, .version = {(const uint8_t *)"1", 1},
                .create = create, .deliver = deliver, .flush = (void (*)(void *, void *))finish, .abort = nothing, .destroy = nothing};
            GW_EXPORT const gw_plugin *gw_plugin_v1(size_t host_size) { (void)host_size; return &plugin; }

            """)
        let path = folder.path("libleak.so")
        let made = try ChildProcess.run([
            "gcc", "-std=c11", "-D_GNU_SOURCE", "-w", "-shared", "-fPIC", "-pthread", "-DLEAKS=\(count)", "-I", Project.headerFolder,
            source, "-o", path,
        ])
        #expect(made.status == 0, "\(made.err)")
        let (_, lines) = try Self.check(path)
        #expect(lines["leaks"]?.seen == told)
    }

    @Test("Symbols beside the entry are named, and those that are one for the whole process")
    func symbols() throws {
        let folder = try TestFolder()
        let open = try CPlugin.build("stages.c", as: folder.path("libopen.so"), ["-Dstatic=", "-Wno-missing-prototypes"])
        let (_, lines) = try Self.check(open)
        #expect(lines["symbols"]?.seen.contains("more: abort_all, create, deliver, destroy, drain and ") == true)
        let source = try folder.write(
            "unique.cpp",
            """
            #include "PluginABI.h"
            template <typename T> struct Shared { static inline int count = 0; };
            int *counter() { return &Shared<int>::count; }
            GW_EXPORT const gw_plugin *gw_plugin_v1(size_t) { return nullptr; }

            """)
        let path = folder.path("libunique.so")
        let made = try ChildProcess.run(["g++", "-std=c++17", "-shared", "-fPIC", "-I", Project.headerFolder, source, "-o", path])
        #expect(made.status == 0, "\(made.err)")
        let (status, unique) = try Self.check(path)
        #expect(status == 1 && unique["symbols"]?.seen.contains("GNU_UNIQUE") == true)
        #expect(unique["load"]?.seen.contains("declines this gateway") == true)
        #expect(unique["create"]?.seen == "the plugin cannot be loaded" && unique["create"]?.result == "not tried")
    }

    @Test("A wrong command line is refused", arguments: [[], ["check"], ["odd"], ["check", "x"], ["check", "x.so", "--config", "[]"]])
    func usage(words: [String]) throws {
        #expect(try ChildProcess.run([try Project.built("gateway"), "plugin"] + words).status == 2)
    }

    @Test("The report for people has a line for each rule")
    func text() throws {
        let ended = try ChildProcess.run([try Project.built("gateway"), "plugin", "check", try Project.built("libStdoutSink.so")])
        let lines = ended.out.split(separator: "\n")
        #expect(ended.status == 0 && lines.count == 17)
        #expect(lines.contains { $0.hasPrefix("pass      abort          finishes what is open within a second of abort: 50 delivered") })
    }
}
