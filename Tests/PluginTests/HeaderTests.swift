import PluginABI
import Testing

@testable import TestSupport

@Suite("The plugin header")
struct HeaderTests {
    static let compilers = [
        ["gcc", "-std=c11", "-x", "c"], ["clang", "-std=c11", "-x", "c"], ["g++", "-std=c++17", "-x", "c++"],
        ["clang++", "-std=c++17", "-x", "c++"],
    ]

    @Test("The header compiles alone without warnings", arguments: compilers)
    func compilesAlone(compiler: [String]) throws {
        let folder = try TestFolder()
        // All macros of the header are used, so that their expansions are compiled too.
        let source = try folder.write(
            "alone.txt",
            """
            #include "PluginABI.h"
            GW_EXPORT const gw_plugin *gw_plugin_v1(size_t host_size);
            const gw_plugin *gw_plugin_v1(size_t host_size) { (void)host_size; return NULL; }
            int has(const gw_outcome *outcome);
            int has(const gw_outcome *outcome) { return GW_HAS(outcome, reason) && outcome->status == GW_STATUS_DELIVERED; }

            """)
        let arguments = compiler + ["-Wall", "-Wextra", "-Werror", "-I", Project.headerFolder, "-c", source, "-o", folder.path("alone.o")]
        let result = try ChildProcess.run(arguments)
        #expect(result.status == 0, "\(result.err)")
    }

    @Test("The header is short, and so are the extensions", arguments: [("PluginABI.h", 180), ("PluginExtensions.h", 85)])
    func length(name: String, limit: Int) throws {
        let lines = try Project.text(of: "\(Project.headerFolder)/\(name)").split(separator: "\n", omittingEmptySubsequences: false)
        #expect(lines.count <= limit)
        #expect(lines.allSatisfy { $0.count <= 150 })
    }

    @Test("The layout of version 1.0 is fixed")
    func layout() {
        #expect(GW_V1_0_PROFILE == 192 && GW_V1_0_DELIVERY == 32 && GW_V1_0_OUTCOME == 56 && GW_V1_0_HOST == 80 && GW_V1_0_PLUGIN == 88)
        #expect(MemoryLayout<gw_plugin>.offset(of: \.start) == 88 && MemoryLayout<gw_plugin>.offset(of: \.drain) == 96)
        #expect(MemoryLayout<gw_slice>.size == 16)
        #expect(MemoryLayout<gw_label>.size == 32)
        #expect(MemoryLayout<gw_sample>.size == 32)
        #expect(MemoryLayout<gw_error>.size == 24)
        #expect(MemoryLayout<gw_profile>.offset(of: \.sample_count) == 184)
        #expect(MemoryLayout<gw_profile>.size >= 192)
        #expect(MemoryLayout<gw_delivery>.offset(of: \.token) == 8)
        #expect(MemoryLayout<gw_delivery>.offset(of: \.attempt) == 16)
        #expect(MemoryLayout<gw_delivery>.offset(of: \.progress) == 24)
        #expect(MemoryLayout<gw_delivery>.size >= 32)
        #expect(MemoryLayout<gw_outcome>.offset(of: \.status) == 8)
        #expect(MemoryLayout<gw_outcome>.offset(of: \.retry_after_ns) == 16)
        #expect(MemoryLayout<gw_outcome>.offset(of: \.progress) == 24)
        #expect(MemoryLayout<gw_outcome>.offset(of: \.http_status) == 32)
        #expect(MemoryLayout<gw_outcome>.offset(of: \.reason) == 40)
        #expect(MemoryLayout<gw_outcome>.size >= 56)
        #expect(MemoryLayout<gw_plugin>.offset(of: \.flags) == 8)
        #expect(MemoryLayout<gw_plugin>.offset(of: \.name) == 16)
        #expect(MemoryLayout<gw_plugin>.offset(of: \.version) == 32)
        #expect(MemoryLayout<gw_plugin>.size >= 88)
    }

    @Test("The offsets of the functions of version 1.0 are fixed")
    func functions() {
        let host: [(PartialKeyPath<gw_host>, Int)] = [
            (\.finish, 16), (\.retain, 24), (\.release, 32), (\.log, 40), (\.set_health, 48), (\.metric, 56), (\.observe, 64),
            (\.extension, 72),
        ]
        for (path, offset) in host { #expect(MemoryLayout<gw_host>.offset(of: path) == offset) }
        let plugin: [(PartialKeyPath<gw_plugin>, Int)] = [
            (\.create, 48), (\.deliver, 56), (\.flush, 64), (\.abort, 72), (\.destroy, 80),
        ]
        for (path, offset) in plugin { #expect(MemoryLayout<gw_plugin>.offset(of: path) == offset) }
        let profile: [(PartialKeyPath<gw_profile>, Int)] = [
            (\.sequence, 8), (\.api, 16), (\.received_ns, 24), (\.from_ns, 32), (\.until_ns, 40), (\.tenant, 48), (\.labels, 64),
            (\.label_count, 72), (\.path, 80), (\.query, 96), (\.format, 112), (\.content_type, 128), (\.content_encoding, 144),
            (\.headers, 160), (\.header_count, 168), (\.samples, 176),
        ]
        for (path, offset) in profile { #expect(MemoryLayout<gw_profile>.offset(of: path) == offset) }
    }

    @Test("The values of the enumerations are fixed, and no status is 0")
    func enumerations() {
        #expect([gw_status.delivered, .retry, .rejected, .aborted].map(\.rawValue) == [1, 2, 3, 4])
        #expect([gw_level.debug, .info, .warning, .error].map(\.rawValue) == [0, 1, 2, 3])
        #expect([gw_health.ok, .degraded, .failed].map(\.rawValue) == [0, 1, 2])
        #expect([gw_metric_kind.counter, .gauge, .seconds].map(\.rawValue) == [0, 1, 2])
        #expect([gw_api.ingest, .push].map(\.rawValue) == [0, 1])
    }
}
