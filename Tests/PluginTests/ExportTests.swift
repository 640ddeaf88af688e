import PluginABI
import Testing

@testable import TestSupport

@Suite("Exports of the built plugins")
struct ExportTests {
    struct Expected: CustomTestStringConvertible {
        let file: String
        let name: String
        var testDescription: String { file }
    }

    static let plugins = [
        Expected(file: "libHTTPWriter.so", name: "pyroscope.write"), Expected(file: "libFileSink.so", name: "gateway.file"),
        Expected(file: "libStdoutSink.so", name: "gateway.stdout"),
    ]

    @Test("A plugin exports only its entry", arguments: plugins, Project.Build.allCases)
    func oneSymbol(plugin: Expected, build: Project.Build) throws {
        let result = try ChildProcess.run(["nm", "-D", "--extern-only", "--defined-only", Project.built(plugin.file, build)])
        #expect(result.status == 0, "\(result.err)")
        let symbols = result.out.split(separator: "\n").compactMap { $0.split(separator: " ").last?.split(separator: "@").first }
        #expect(symbols == ["gw_plugin_v1"])
    }

    @Test("A plugin names itself and its version", arguments: plugins, Project.Build.allCases)
    func names(plugin: Expected, build: Project.Build) throws {
        let table = try LoadedPlugin(Project.built(plugin.file, build)).table.pointee
        #expect(table.name.text == plugin.name)
        #expect(table.version.text.wholeMatch(of: #/\d+\.\d+\.\d+/#) != nil)
        #expect(table.size >= MemoryLayout<gw_plugin>.size)
        #expect(table.flags == 0)
    }

    @Test("A plugin returns the same table on every call", arguments: plugins, Project.Build.allCases)
    func sameTable(plugin: Expected, build: Project.Build) throws {
        let loaded = try LoadedPlugin(Project.built(plugin.file, build))
        #expect(loaded.entry(MemoryLayout<gw_host>.size) == loaded.table)
        // The host of a later gateway is longer, and valid too.
        #expect(loaded.entry(MemoryLayout<gw_host>.size + 64) == loaded.table)
    }

    @Test("A plugin declines a host that is shorter than that of version 1.0", arguments: plugins, Project.Build.allCases)
    func shortHost(plugin: Expected, build: Project.Build) throws {
        let loaded = try LoadedPlugin(Project.built(plugin.file, build))
        #expect(loaded.entry(MemoryLayout<gw_host>.size - 1) == nil)
        #expect(loaded.entry(0) == nil)
    }

    @Test("A plugin needs no symbol of the gateway", arguments: plugins)
    func noUndefinedGateway(plugin: Expected) throws {
        let result = try ChildProcess.run(["nm", "-D", "--undefined-only", Project.built(plugin.file)])
        #expect(!result.out.contains("gw_"))
    }
}
