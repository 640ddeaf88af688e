import Foundation
import Glibc
import Testing

@testable import TestSupport

/// Runs `gateway check` on plugins that other users could have changed.
@Suite("Trust in plugin files")
struct PluginTrustTests {
    private let folder: TestFolder

    init() throws {
        folder = try TestFolder()
        chmod(folder.path, 0o755)
    }

    /// Runs a command of the gateway on a config with this receiver.
    private func run(_ command: String, _ receiver: String) throws -> (status: Int32?, out: String) {
        let file = try folder.write("gateway.json", RunningGateway.config([("sink", receiver)]))
        let result = try ChildProcess.run([Project.built("gateway"), command, "--config", file])
        return (result.status, result.out + result.err)
    }

    /// The problem that `gateway check` reports for a plugin, or an empty text.
    private func complaint(_ plugin: String, sha256: String? = nil) throws -> String {
        let pin = sha256.map { ", \"sha256\": \"\($0)\"" } ?? ""
        let result = try run("check", "{ \"plugin\": \"\(plugin)\"\(pin) }")
        #expect(result.status == 0 || result.out.contains("receivers.sink."))
        return result.status == 0 ? "" : result.out
    }

    /// Builds a valid plugin.
    private func plugin(_ name: String = "libplugin.so", _ flags: [String] = []) throws -> String {
        try CPlugin.build("refused.c", as: folder.path(name), flags)
    }

    private func hash(_ path: String) throws -> String {
        let result = try ChildProcess.run(["sha256sum", path])
        return String(result.out.prefix(64))
    }

    /// Builds a library, and a plugin that needs it.
    private func pluginWithHelper(in place: String, search: [String], name: String = "libplugin.so") throws -> String {
        let source = try folder.write("helper.c", "int help(void) { return 7; }\n")
        let helper = try ChildProcess.run(["gcc", "-shared", "-fPIC", source, "-o", "\(place)/libhelper.so"])
        try #require(helper.status == 0, "\(helper.err)")
        return try plugin(name, ["-L\(place)", "-Wl,--no-as-needed", "-lhelper"] + search)
    }

    // MARK: Libraries of a plugin

    @Test("A library next to the plugin is found by $ORIGIN", arguments: ["--enable-new-dtags", "--disable-new-dtags"])
    func origin(tags: String) throws {
        let path = try pluginWithHelper(in: folder.path, search: ["-Wl,\(tags),-rpath,$ORIGIN"])
        #expect(try complaint(path) == "")
    }

    @Test("A plugin gets the library behind async from the gateway's runtime, whatever its own folders have")
    func concurrency() throws {
        let place = try folder.folder("libraries")
        let stub = try ChildProcess.run(["gcc", "-shared", "-x", "c", "/dev/null", "-o", "\(place)/libswift_Concurrency.so"])
        try #require(stub.status == 0, "\(stub.err)")
        chmod("\(place)/libswift_Concurrency.so", 0o666)
        let flags = ["-L\(place)", "-Wl,--no-as-needed", "-lswift_Concurrency"]
        #expect(try complaint(plugin("libwithout.so", flags)) == "")
        #expect(try complaint(plugin("libwith.so", flags + ["-Wl,-rpath,\(place)"])) == "")
    }

    @Test("A library that others can write, or one in such a folder, is refused", arguments: ["--enable-new-dtags", "--disable-new-dtags"])
    func writable(tags: String) throws {
        let place = try folder.folder("libraries")
        let path = try pluginWithHelper(in: place, search: ["-Wl,\(tags),-rpath,\(place)"])
        #expect(try complaint(path) == "")
        chmod("\(place)/libhelper.so", 0o757)
        let file = try complaint(path)
        #expect(file.contains("brings in libhelper.so by its RUNPATH or RPATH: \(place)/libhelper.so is writable by everybody"))
        chmod("\(place)/libhelper.so", 0o755)
        chmod(place, 0o777)
        #expect(try complaint(path).contains("\(place) is writable by everybody"))
    }

    @Test("A folder that is searched earlier and that others can write is refused, also if it is missing")
    func plantable() throws {
        let open = try folder.folder("open", mode: 0o777)
        let place = try folder.folder("libraries")
        for first in [open, "\(open)/none"] {
            let path = try pluginWithHelper(in: place, search: ["-Wl,--enable-new-dtags,-rpath,\(first):\(place)"])
            #expect(try complaint(path).contains("\(open) is writable by everybody"))
        }
        let path = try pluginWithHelper(in: place, search: ["-Wl,--enable-new-dtags,-rpath,\(folder.path)/none:\(place):\(open)"])
        #expect(try complaint(path) == "")
    }

    @Test("The libraries of libraries are checked too")
    func nested() throws {
        let (near, far) = (try folder.folder("near"), try folder.folder("far", mode: 0o777))
        let source = try folder.write("far.c", "int far(void) { return 7; }\n")
        try #require(try ChildProcess.run(["gcc", "-shared", "-fPIC", source, "-o", "\(far)/libfar.so"]).status == 0)
        let search = ["-L\(far)", "-Wl,--no-as-needed", "-lfar", "-Wl,--enable-new-dtags,-rpath,\(far)"]
        try #require(try ChildProcess.run(["gcc", "-shared", "-fPIC", source, "-o", "\(near)/libnear.so"] + search).status == 0)
        let flags = ["-L\(near)", "-Wl,--no-as-needed", "-lnear", "-Wl,--allow-shlib-undefined", "-Wl,--enable-new-dtags,-rpath,\(near)"]
        #expect(try complaint(plugin("libplugin.so", flags)).contains("\(far) is writable by everybody"))
    }

    // MARK: sha256

    @Test("A plugin with a pinned SHA-256 is loaded although others can write its file and folder")
    func pinned() throws {
        let open = try folder.folder("open", mode: 0o777)
        let path = try plugin("open/libplugin.so")
        chmod(path, 0o777)
        #expect(try complaint(path).contains("is writable by everybody"))
        let sum = try hash(path)
        #expect(try complaint(path, sha256: sum) == "")
        #expect(try complaint(path, sha256: sum.uppercased()) == "")
        try #require(symlink("libplugin.so", "\(open)/liblink.so") == 0)
        #expect(try complaint("\(open)/liblink.so", sha256: sum) == "")
    }

    @Test("Content with another SHA-256 is refused, and the error shows the actual one")
    func otherContent() throws {
        let path = try plugin()
        let sum = try hash(path)
        let other = (sum.hasPrefix("0") ? "1" : "0") + sum.dropFirst()
        #expect(try complaint(path, sha256: other).contains("has sha256 \(sum), and the config names another one"))
    }

    @Test(
        "An invalid SHA-256 is refused at its place",
        arguments: ["", "abc", String(repeating: "g", count: 64), String(repeating: "0", count: 65)])
    func noHash(text: String) throws {
        #expect(try complaint(plugin(), sha256: text).contains("receivers.sink.sha256: must be 64 hexadecimal digits"))
    }

    @Test("A pinned plugin cannot load libraries next to it, and the error says so")
    func besideCopy() throws {
        let path = try pluginWithHelper(in: folder.path, search: ["-Wl,--enable-new-dtags,-rpath,$ORIGIN"])
        let said = try complaint(path, sha256: hash(path))
        #expect(said.contains("\(folder.path)/libhelper.so lies beside the plugin") && said.contains("loaded from a copy"))
    }

    @Test("Other libraries of a pinned plugin are checked as usual")
    func pinnedDependency() throws {
        let place = try folder.folder("libraries")
        let path = try pluginWithHelper(in: place, search: ["-Wl,--enable-new-dtags,-rpath,$ORIGIN:\(place)"])
        #expect(try complaint(path, sha256: hash(path)) == "")
        chmod(place, 0o777)
        #expect(try complaint(path, sha256: hash(path)).contains("\(place) is writable by everybody"))
    }

    @Test("gateway plugins shows which plugins are pinned, and why one is not loaded")
    func list() throws {
        let path = try plugin()
        let sum = try hash(path)
        let pinned = try run("plugins", "{ \"plugin\": \"\(path)\", \"sha256\": \"\(sum)\" }")
        #expect(pinned.status == 0 && pinned.out.contains("sha256:\(sum) pinned"))
        let free = try run("plugins", "{ \"plugin\": \"\(path)\" }")
        #expect(free.status == 0 && free.out.contains("sha256:\(sum)  for sink"))
        let wrong = try run("plugins", "{ \"plugin\": \"\(path)\", \"sha256\": \"\(String(repeating: "0", count: 64))\" }")
        #expect(wrong.status == 1 && wrong.out.contains("has sha256 \(sum)"))
    }

    @Test("A pinned plugin of the gateway runs from a copy that nobody can write", arguments: ["StdoutSink", "HTTPWriter"])
    func shipped(name: String) throws {
        let file = try Project.built("lib\(name).so")
        let place = try folder.folder("group", mode: 0o777)
        let path = "\(place)/lib\(name).so"
        try FileManager.default.copyItem(atPath: file, toPath: path)
        let config = name == "HTTPWriter" ? ", \"config\": { \"endpoint\": [{ \"url\": \"http://127.0.0.1:9\" }] }" : ""
        let gateway = try RunningGateway([("sink", "{ \"plugin\": \"\(path)\", \"sha256\": \"\(hash(path))\"\(config) }")], in: folder)
        let maps = try ChildProcess.run(["cat", "/proc/\(gateway.process.id)/maps"]).out
        #expect(maps.contains("/memfd:lib\(name).so (deleted)"))
        #expect(!maps.contains(path))
    }
}
