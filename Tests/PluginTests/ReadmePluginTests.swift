import Foundation
import PluginABI
import Testing

@testable import TestSupport

@Suite("The example plugin of docs/writing-plugins.md")
struct ReadmePluginTests {
    static let source = "\(Project.pluginSources)/line_sink.c"

    /// Compiles the plugin with the usual warnings.
    private func build(in folder: TestFolder) throws -> String {
        let path = folder.path("liblines.so")
        let result = try ChildProcess.run(CPlugin.compiler + [Self.source, "-o", path])
        guard result.status == 0 else { throw Obstacle(result.err) }
        return path
    }

    @Test("The plugin has at most 25 lines of at most 130 characters")
    func length() throws {
        let lines = try Project.text(of: Self.source).split(separator: "\n")
        #expect(lines.count <= 25)
        #expect(lines.allSatisfy { $0.count <= 130 })
    }

    @Test("The document contains the plugin byte for byte")
    func document() throws {
        let document = try Project.text(of: "\(Project.root)/docs/writing-plugins.md")
        let start = try #require(document.range(of: "```c\n"), "docs/writing-plugins.md has no ```c block")
        let end = try #require(document.range(of: "```", range: start.upperBound..<document.endIndex))
        let shown = String(document[start.upperBound..<end.lowerBound])
        #expect(shown == (try Project.text(of: Self.source)))
    }

    @Test("The gateway loads the plugin and delivers what curl sends")
    func receives() throws {
        let folder = try TestFolder()
        let gateway = try RunningGateway([("lines", #"{ "plugin": "\#(try build(in: folder))" }"#)], in: folder)
        #expect(try gateway.send(name: "checkout{env=prod}") == "200")
        #expect(try gateway.send(name: "cart{note=two\nlines}") == "200")
        try gateway.endsWell()
        #expect(
            try Project.text(of: folder.path("profiles.txt")) == """
                __name__=checkout env=prod service_name=checkout 1 sample
                __name__=cart note=two?lines service_name=cart 1 sample

                """)
    }

    @Test("The plugin refuses a config")
    func refusesConfig() throws {
        let folder = try TestFolder()
        let plugin = try LoadedPlugin(build(in: folder))
        #expect(try plugin.refusal(of: #"{"path":"x"}"#) == ["takes no config"])
        _ = try plugin.create("{}", TestHost())
    }
}
