import Foundation
import Testing

@testable import TestSupport

@Suite("The installed SDK")
struct InstalledSDKTests {
    /// Installs the SDK, and returns the flags that pkg-config gives for it.
    private static func install(in folder: TestFolder) throws -> [String] {
        let prefix = folder.path("prefix")
        let made = try ChildProcess(
            ["make", "-s", "-C", Project.root, "install-sdk", "PREFIX=\(prefix)"], environment: ["MAKEFLAGS": ""]
        ).wait()
        guard made.status == 0 else { throw Obstacle(made.err) }
        // It may be moved: all paths are relative to where the .pc file is.
        let moved = folder.path("moved")
        try FileManager.default.moveItem(atPath: prefix, toPath: moved)
        return try flags("\(moved)/share/pkgconfig")
    }

    private static func flags(_ place: String) throws -> [String] {
        let told = try ChildProcess(
            ["pkg-config", "--cflags", "--libs", "profile-gateway-plugin"], environment: ["PKG_CONFIG_PATH": place]
        ).wait()
        guard told.status == 0 else { throw Obstacle(told.err) }
        return told.out.split(whereSeparator: \.isWhitespace).map(String.init)
    }

    private static let sources = [
        ["gcc", "-std=c11", "\(Project.pluginSources)/line_sink.c"], ["clang", "-std=c11", "\(Project.pluginSources)/line_sink.c"],
        ["g++", "-std=c++17", "\(Project.pluginSources)/odd.cpp"], ["clang++", "-std=c++17", "\(Project.pluginSources)/odd.cpp"],
    ]

    @Test("A plugin builds with what pkg-config says, exports its entry alone and is hardened", arguments: sources)
    func builds(command: [String]) throws {
        let folder = try TestFolder()
        let flags = try Self.install(in: folder)
        #expect(flags.contains { $0.hasPrefix("-I\(folder.path)") })
        let path = folder.path("plugin.so")
        let made = try ChildProcess.run(command + ["-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", path] + flags)
        #expect(made.status == 0, "\(made.err)")
        let symbols = try ChildProcess.run(["nm", "-D", "--defined-only", path]).out.split(separator: "\n")
        #expect(symbols.count == 1 && symbols.first?.hasSuffix(" gw_plugin_v1") == true, "\(symbols)")
        let dynamic = try ChildProcess.run(["readelf", "-W", "-d", "-l", path]).out
        #expect(dynamic.contains("GNU_RELRO") && dynamic.contains("NOW"))
    }

    @Test("The folder in the repository can be used where it is")
    func inPlace() throws {
        let flags = try Self.flags(Project.headerFolder)
        #expect(flags.contains("-I\(Project.headerFolder)"))
        #expect(flags.contains("-Wl,--version-script=\(Project.headerFolder)/gw_plugin.map"))
    }

    @Test("DESTDIR stands before PREFIX, as packagers want it, and the files are readable by all")
    func destination() throws {
        let folder = try TestFolder()
        let command = "umask 077 && MAKEFLAGS= exec make -s -C \"$0\" install-sdk PREFIX=/usr DESTDIR=\"$1\""
        let made = try ChildProcess.run(["bash", "-c", command, Project.root, folder.path("root")])
        #expect(made.status == 0, "\(made.err)")
        let files = TestFolder.files(below: folder.path("root/usr"))
        #expect(
            files == [
                "include/profile-gateway/PluginABI.h", "include/profile-gateway/PluginExtensions.h", "include/profile-gateway/gw.hpp",
                "include/profile-gateway/gw_plugin.map", "share/pkgconfig/profile-gateway-plugin.pc",
            ])
        for file in files {
            let mode = try FileManager.default.attributesOfItem(atPath: folder.path("root/usr/\(file)"))[.posixPermissions] as? Int
            #expect(mode == 0o644)
        }
    }
}
