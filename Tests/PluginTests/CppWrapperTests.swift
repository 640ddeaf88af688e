import PluginABI
import Testing

@testable import TestSupport

@Suite("Plugins in C++ with gw.hpp")
struct CppWrapperTests {
    static let compilers = ["g++", "clang++"]

    /// Builds the plugin that does what its config says.
    private static func odd(_ folder: TestFolder, compiler: String = "g++") throws -> String {
        let path = folder.path("odd.so")
        let map = "-Wl,--version-script=\(Project.headerFolder)/gw_plugin.map"
        let made = try ChildProcess.run([
            compiler, "-std=c++17", "-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wconversion", "-Werror", "-shared", "-fPIC",
            "-fvisibility=hidden", map, "-I", Project.headerFolder, "\(Project.pluginSources)/odd.cpp", "-o", path,
        ])
        guard made.status == 0 else { throw Obstacle(made.err) }
        return path
    }

    @Test("The example of docs/writing-plugins.md compiles without a warning, and works", arguments: compilers)
    func example(compiler: String) throws {
        let document = try Project.text(of: "\(Project.root)/docs/writing-plugins.md")
        let start = try #require(document.range(of: "```cpp\n"), "docs/writing-plugins.md has no ```cpp block")
        let end = try #require(document.range(of: "```", range: start.upperBound..<document.endIndex))
        let folder = try TestFolder()
        let source = try folder.write("sizes.cpp", String(document[start.upperBound..<end.lowerBound]))
        let path = folder.path("sizes.so")
        let flags = ["-std=c++17", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-fvisibility=hidden"]
        let made = try ChildProcess.run([compiler] + flags + ["-I", Project.headerFolder, source, "-o", path])
        try #require(made.status == 0, "\(made.err)")
        let gateway = try RunningGateway([("sizes", #"{ "plugin": "\#(path)", "config": { "service": "checkout" } }"#)], in: folder)
        #expect(try gateway.send(name: "checkout") == "200")
        try gateway.logLine("12 bytes", "receiver=sizes")
        #expect(try gateway.send(name: "cart") == "200")
        try gateway.logLine("it is of another service")
    }

    @Test("A plugin keeps every rule of plugin check", arguments: compilers)
    func rules(compiler: String) throws {
        let folder = try TestFolder()
        let ended = try ChildProcess.run([
            try Project.built("gateway"), "plugin", "check", try Self.odd(folder, compiler: compiler), "--config", #"{"do":"nothing odd"}"#,
        ])
        let lines = ended.out.split(separator: "\n")
        // It takes any config.
        #expect(lines.filter { $0.hasPrefix("fail") }.allSatisfy { $0.contains("unknown-member") }, "\(ended.out)")
        for rule in ["symbols", "start", "deliveries", "flush", "drain", "abort", "leaks"] {
            #expect(lines.contains { $0.hasPrefix("pass      \(rule) ") }, "\(rule): \(ended.out)")
        }
    }

    @Test("What the constructor throws is the text of the refusal, cut between characters")
    func create() throws {
        let folder = try TestFolder()
        let plugin = try LoadedPlugin(Self.odd(folder))
        #expect(try plugin.refusal(of: "throw in create") == ["member: cannot be"])
        #expect(try plugin.refusal(of: "throw a number in create") == ["the plugin threw what is no std::exception"])
        #expect(try plugin.refusal(of: "throw much in create") == [String(repeating: "é", count: 4096)])
        #expect(try plugin.refusal(of: "want json") == ["this gateway is too old: it has no gw.json/1"])
        #expect(try plugin.refusal(of: "want a timer") == ["this gateway is too old: it has no gw.timer/1"])
    }

    @Test(
        "A delivery ends exactly once, whatever the plugin does",
        arguments: [
            ("nothing odd", gw_status.delivered, ""), ("throw in deliver", .retry, "the disk is on fire"),
            ("throw a number in deliver", .retry, "the plugin threw what is no std::exception"), ("reject", .rejected, "poison"),
            ("drop", .rejected, "the plugin dropped the delivery without an outcome"), ("finish twice", .delivered, ""),
            ("say all", .retry, "later"),
        ])
    func outcomes(deed: String, status: gw_status, reason: String) throws {
        let folder = try TestFolder()
        let host = TestHost()
        let instance = try LoadedPlugin(Self.odd(folder)).create(deed, host)
        let finish = try instance.deliver(TestProfile(), progress: 4)
        #expect(finish.status == status && finish.reason == reason)
        #expect(finish.senderMessage == (deed == "reject" ? "label env is wrong" : ""))
        if deed == "say all" { #expect(finish.progress == 5 && finish.httpStatus == 503 && finish.retryAfter == .seconds(2)) }
        #expect(host.said.current.finishes.count == 1)
        #expect(host.said.current.logs == (deed == "nothing odd" ? ["prod 7 "] : []))
        #expect(host.value("odd_made_total", ["kind": "new"]) == 1)
    }

    @Test("A retained profile is there until the delivery that was moved away ends, and what abort throws is logged")
    func retained() throws {
        let folder = try TestFolder()
        let host = TestHost()
        let instance = try LoadedPlugin(Self.odd(folder)).create("keep, throw in abort", host)
        let profiles = [TestProfile(), TestProfile(sequence: 8)]
        let tokens = profiles.map { instance.begin($0) }
        #expect(host.said.current.finishes.isEmpty)
        for profile in profiles { #expect(TestHost.retained.current[UInt(bitPattern: profile.view)] == 1) }
        instance.abort()
        for token in tokens { #expect(try host.outcome(of: token).status == .aborted) }
        for profile in profiles { #expect(TestHost.retained.current[UInt(bitPattern: profile.view)] == 0) }
        #expect(host.said.current.logs == ["kept prod", "kept prod", "abort: no abort"])
    }

    @Test("What flush throws ends it as a failure")
    func flush() throws {
        let folder = try TestFolder()
        let host = TestHost()
        let instance = try LoadedPlugin(Self.odd(folder)).create("throw in flush", host)
        let finish = try host.outcome(of: instance.flush())
        #expect(finish.status == .retry && finish.reason == "no sync")
    }

    @Test("What start throws makes the receiver wait, with the text")
    func start() throws {
        let folder = try TestFolder()
        let path = try Self.odd(folder)
        let gateway = try RunningGateway([("odd", #"{ "plugin": "\#(path)", "config": { "do": "throw in start" } }"#)], in: folder)
        try gateway.logLine("the device is busy")
    }

    // MARK: Extensions

    /// The plugin that gathers batches.
    private static func batch(_ folder: TestFolder) throws -> String {
        let path = folder.path("batch.so")
        let made = try ChildProcess.run([
            "g++", "-std=c++17", "-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wconversion", "-Werror", "-shared", "-fPIC",
            "-I", Project.headerFolder, "\(Project.pluginSources)/batch.cpp", "-o", path,
        ])
        guard made.status == 0 else { throw Obstacle(made.err) }
        return path
    }

    @Test(
        "What is wrong with a config is told with its path",
        arguments: [
            (#"{"batch":7}"#, "config.batch: must be an object"), (#"{"batch":{}}"#, "config.batch.size: must be 1 to 50, is missing"),
            (#"{"batch":{"size":1e9}}"#, "config.batch.size: must be 1 to 50, is 1e9"),
            (#"{"batch":{"size":"5"}}"#, "config.batch.size: must be 1 to 50"),
            (#"{"batch":{"size":"${LOUD}"}}"#, "config.batch.size: must be 1"),
            (#"{"batch":{"size":5,"loud":1}}"#, "config.batch.loud: must be true or false"),
            (#"{"batch":{"size":5,"x":{}}}"#, "config.batch.x: unknown"), (#"{"targets":"x"}"#, "config.targets: must be an array"),
            (#"{"targets":[1]}"#, "config.targets[0]: must be an object"),
            (#"{"targets":[{},{"name":[]}]}"#, "config.targets[1].name: must be a string"),
            (#"{"labels":{"a":null}}"#, "config.labels.a: must be a string"),
        ])
    func problems(config: String, text: String) throws {
        let folder = try TestFolder()
        let receiver = #"{ "plugin": "\#(try Self.batch(folder))", "config": \#(config) }"#
        let file = try folder.write("gateway.json", RunningGateway.config([("b", receiver)]))
        let checked = try ChildProcess(["env", "LOUD=true", try Project.built("gateway"), "check", "--config", file]).wait()
        #expect(checked.status == 1 && (checked.out + checked.err).contains(": receivers.b.\(text)"), "\(checked)")
    }

    @Test("A config is read, with references to the environment, and a batch is sent by a timer or when it is full")
    func batches() throws {
        let folder = try TestFolder()
        let config = #"{"batch":{"size":"${SIZE}","loud":"${LOUD}","delay":1},"targets":[{"name":"a\u00e9"},{}],"labels":{"x":"1"}}"#
        let receiver = #"{ "plugin": "\#(try Self.batch(folder))", "config": \#(config) }"#
        let gateway = try RunningGateway([("b", receiver)], in: folder, environment: ["SIZE": "2", "LOUD": "true"])
        try gateway.logLine("loud aé none x=1")
        #expect(try gateway.send() == "200")
        try gateway.logLine("1 profiles because of the timer")
        try gateway.wait(forMetric: "gateway_profiles_delivered_total{receiver=\"b\"}", toBe: "1")
        try gateway.endsWell()
        let full = config.replacing(#""delay":1"#, with: #""delay":1e6"#)
        let second = try RunningGateway(
            [("b", receiver.replacing(config, with: full))], in: folder, environment: ["SIZE": "2", "LOUD": "false"])
        for _ in 0..<3 { #expect(try second.send() == "200") }
        try second.logLine("2 profiles because of the batch")
        #expect(try second.stop().status == 0)
        #expect(second.log.contains { $0.contains("1 profiles because of the end") })
    }
}
