import Foundation
import Glibc
import Testing

@testable import TestSupport

/// Plugins that the gateway refuses with an error that names the place in the config and the remedy.
@Suite("Plugins that the gateway refuses")
struct RefusalTests {
    /// Runs `gateway check` on a config whose only receiver has this `plugin`, and returns its lines.
    private func check(_ plugin: String, config: String = "{}", in folder: TestFolder) throws -> [String] {
        let text = RunningGateway.config([("sink", "{ \"plugin\": \"\(plugin)\",\n      \"config\": \(config) }")])
        let file = try folder.write("gateway.json", text)
        let result = try ChildProcess.run([try Project.built("gateway"), "check", "--config", file], in: folder.path)
        #expect(result.status == 1)
        #expect(result.err == "")
        return result.out.split(separator: "\n").map(String.init)
    }

    /// The line and column of `text` in the config that ``check(_:config:in:)`` wrote.
    private func place(of text: String, in folder: TestFolder) throws -> String {
        let config = try Project.text(of: folder.path("gateway.json"))
        let range = try #require(config.range(of: text))
        let before = config[..<range.lowerBound].split(separator: "\n", omittingEmptySubsequences: false)
        return "\(folder.path("gateway.json")):\(before.count):\((before.last?.count ?? 0) + 1)"
    }

    /// Expects one line about `plugin`, with its place, its path and all of `words`.
    private func expectRefusal(
        of plugin: String, in folder: TestFolder, _ words: String..., sourceLocation: SourceLocation = #_sourceLocation
    )
        throws
    {
        let lines = try check(plugin, in: folder)
        #expect(lines.count == 1, sourceLocation: sourceLocation)
        let line = lines.first ?? ""
        #expect(line.hasPrefix("\(try place(of: "\"\(plugin)\"", in: folder)): receivers.sink.plugin: "), sourceLocation: sourceLocation)
        for word in words { #expect(line.contains(word), sourceLocation: sourceLocation) }
    }

    /// Compiles `refused.c` with these flags.
    private func refused(_ folder: TestFolder, _ flags: String..., at name: String = "librefused.so") throws -> String {
        try CPlugin.build("refused.c", as: folder.path(name), flags)
    }

    @Test("A valid plugin is accepted")
    func accepted() throws {
        let folder = try TestFolder()
        let path = try refused(folder)
        let file = try folder.write("gateway.json", RunningGateway.config([("sink", "{ \"plugin\": \"\(path)\" }")]))
        let result = try ChildProcess.run([Project.built("gateway"), "check", "--config", file])
        #expect(result.status == 0)
        #expect(result.out == "\(file): ok\n")
    }

    @Test("A missing file is refused")
    func noFile() throws {
        let folder = try TestFolder()
        try expectRefusal(of: folder.path("libnone.so"), in: folder, "no plugin", "libnone.so")
    }

    @Test("An unknown name is refused, with the folders that were searched")
    func noName() throws {
        let folder = try TestFolder()
        try expectRefusal(of: "NoSuchSink", in: folder, "libNoSuchSink.so", "plugin_dirs")
    }

    @Test("A text file is refused")
    func textFile() throws {
        let folder = try TestFolder()
        let path = try folder.write("libtext.so", "This is not a shared object, however long it is.\n")
        try expectRefusal(of: path, in: folder, "not a shared object", "-shared")
    }

    @Test("An empty file is refused")
    func emptyFile() throws {
        let folder = try TestFolder()
        try expectRefusal(of: try folder.write("libempty.so", ""), in: folder, "not a shared object")
    }

    @Test("A folder is refused")
    func aFolder() throws {
        let folder = try TestFolder()
        try expectRefusal(of: try folder.folder("libfolder.so"), in: folder, "libfolder.so")
    }

    @Test("A named pipe is refused without waiting for a writer", .timeLimit(.minutes(5)))
    func namedPipe() throws {
        let folder = try TestFolder()
        try #require(mkfifo(folder.path("libpipe.so"), 0o600) == 0)
        let file = try folder.write("gateway.json", RunningGateway.config([("sink", "{ \"plugin\": \"\(folder.path("libpipe.so"))\" }")]))
        let result = try ChildProcess.run([try Project.built("gateway"), "check", "--config", file])
        #expect(result.status == 1)
        #expect(result.out.contains("libpipe.so"))
    }

    @Test("A truncated shared object is refused")
    func truncated() throws {
        let folder = try TestFolder()
        let whole = try TestFolder.bytes(of: refused(folder))
        let path = try folder.write("libcut.so", Array(whole.prefix(600)))
        try expectRefusal(of: path, in: folder, "libcut.so")
    }

    @Test("An object file that was not linked is refused")
    func relocatable() throws {
        let folder = try TestFolder()
        let path = folder.path("libobject.so")
        let result = try ChildProcess.run([
            "gcc", "-c", "-fPIC", "-I", Project.headerFolder, "\(Project.pluginSources)/refused.c", "-o", path,
        ])
        try #require(result.status == 0)
        try expectRefusal(of: path, in: folder, "not a shared object", "-shared")
    }

    @Test("A program is refused", arguments: ["-no-pie", "-pie"])
    func executable(kind: String) throws {
        let folder = try TestFolder()
        let source = try folder.write("program.c", "int main(void) { return 0; }\n")
        let path = folder.path("libprogram.so")
        try #require(try ChildProcess.run(["gcc", "-fPIC", kind, source, "-o", path]).status == 0)
        try expectRefusal(of: path, in: folder, "libprogram.so")
    }

    @Test("A shared object for another machine is refused")
    func otherMachine() throws {
        let folder = try TestFolder()
        var bytes = try TestFolder.bytes(of: refused(folder))
        // e_machine: 183 is AArch64, 62 is x86-64.
        bytes[18] = bytes[18] == 183 ? 62 : 183
        try expectRefusal(of: try folder.write("libother.so", bytes), in: folder, "another machine")
    }

    @Test("A shared object of 32 bits is refused")
    func thirtyTwoBits() throws {
        let folder = try TestFolder()
        var bytes = try TestFolder.bytes(of: refused(folder))
        bytes[4] = 1
        try expectRefusal(of: try folder.write("libother.so", bytes), in: folder, "another machine")
    }

    @Test("A shared object with an undefined symbol is refused, with the loader's message")
    func undefinedSymbol() throws {
        let folder = try TestFolder()
        let source = try folder.write("missing.c", "int nowhere(void); int gw_plugin_v1(void) { return nowhere(); }\n")
        let path = folder.path("libmissing.so")
        try #require(try ChildProcess.run(["gcc", "-shared", "-fPIC", source, "-o", path]).status == 0)
        try expectRefusal(of: path, in: folder, "cannot be loaded", "nowhere")
    }

    @Test("A library without the entry symbol is refused")
    func noEntry() throws {
        let folder = try TestFolder()
        try expectRefusal(of: try refused(folder, "-DNO_ENTRY"), in: folder, "no symbol gw_plugin_v1", "GW_EXPORT")
    }

    @Test("A plugin whose entry returns NULL is refused")
    func entryAnswersNull() throws {
        let folder = try TestFolder()
        try expectRefusal(of: try refused(folder, "-DENTRY_ANSWERS_NULL"), in: folder, "declines", "NULL")
    }

    @Test("A plugin whose table is shorter than that of version 1.0 is refused", arguments: ["GW_V1_0_PLUGIN-1", "0"])
    func shortTable(size: String) throws {
        let folder = try TestFolder()
        try expectRefusal(of: try refused(folder, "-DTABLE_SIZE=\(size)"), in: folder, "smaller than version 1.0's", "sizeof(gw_plugin)")
    }

    @Test("A plugin with an unknown flag is refused", arguments: ["1u", "0x80000000u"])
    func unknownFlag(flag: String) throws {
        let folder = try TestFolder()
        try expectRefusal(of: try refused(folder, "-DFLAGS=\(flag)"), in: folder, "flags 0x", "newer gateway")
    }

    @Test(
        "A plugin whose name or version cannot be shown is refused",
        arguments: ["NAME", "VERSION"], ["", "two words", "a/b", "caf\u{e9}", String(repeating: "a", count: 65)])
    func badName(what: String, text: String) throws {
        let folder = try TestFolder()
        try expectRefusal(of: try refused(folder, "-D\(what)=\"\(text)\""), in: folder, "has the \(what.lowercased())", "1 to 64")
    }

    @Test("A name of 64 characters is accepted", arguments: [1, 64])
    func longName(count: Int) throws {
        let folder = try TestFolder()
        let path = try refused(folder, "-DNAME=\"\(String(repeating: "a", count: count))\"")
        let file = try folder.write("gateway.json", RunningGateway.config([("sink", "{ \"plugin\": \"\(path)\" }")]))
        #expect(try ChildProcess.run([Project.built("gateway"), "check", "--config", file]).status == 0)
    }

    @Test(
        "A plugin of version 1.0, or of a later one with a longer table, is accepted",
        arguments: ["GW_V1_0_PLUGIN", "sizeof(gw_plugin)+64"])
    func otherTable(size: String) throws {
        let folder = try TestFolder()
        let path = try refused(folder, "-DTABLE_SIZE=\(size)")
        let file = try folder.write("gateway.json", RunningGateway.config([("sink", "{ \"plugin\": \"\(path)\" }")]))
        #expect(try ChildProcess.run([Project.built("gateway"), "check", "--config", file]).status == 0)
    }

    // MARK: create

    @Test("Each line with which a plugin refuses its config is reported at the member that it names")
    func createRefuses() throws {
        let folder = try TestFolder()
        let text = #"-DCREATE_REFUSES="depth: must be 1 to 9, is 0\nlist[1].colour: unknown\nno disk""#
        let path = try refused(folder, text)
        let lines = try check(path, config: #"{ "depth": 0, "list": [{}, { "colour": "red" }] }"#, in: folder)
        #expect(lines.count == 3)
        let depth = try place(of: "0, \"list\"", in: folder)
        let colour = try place(of: "\"colour\"", in: folder)
        let config = try place(of: #"{ "depth""#, in: folder)
        #expect(lines.contains { $0.hasPrefix("\(depth): receivers.sink.config") && $0.hasSuffix("depth: must be 1 to 9, is 0") })
        #expect(lines.contains { $0.hasPrefix("\(colour): receivers.sink.config") && $0.hasSuffix("list[1].colour: unknown") })
        #expect(lines.contains { $0.hasPrefix("\(config): receivers.sink.config") && $0.hasSuffix("no disk") })
    }

    @Test("A mistake in a plugin's config is shown at its place in the file")
    func placeInConfig() throws {
        let folder = try TestFolder()
        let lines = try check(
            "HTTPWriter", config: #"{ "endpoint": [{ "url": "http://a" }, { "url": "gopher://b", "retries": 3 }] }"#, in: folder)
        #expect(lines.count == 2)
        let url = try place(of: "\"gopher", in: folder)
        let retries = try place(of: "\"retries\"", in: folder)
        #expect(lines.contains { $0.hasPrefix("\(url): receivers.sink.config") && $0.contains("endpoint[1].url: ") })
        #expect(lines.contains { $0.hasPrefix("\(retries): receivers.sink.config") && $0.contains("endpoint[1].retries: unknown") })
    }

    @Test("A plugin that refuses without a reason gets a standard error")
    func createRefusesSilently() throws {
        let folder = try TestFolder()
        let lines = try check(refused(folder, "-DCREATE_REFUSES_SILENTLY"), in: folder)
        #expect(lines.count == 1)
        #expect(lines.first?.contains("receivers.sink.config: ") == true)
        #expect(lines.first?.contains("without a reason") == true)
    }

    @Test("An error length beyond the buffer is cut to the buffer")
    func createOverstates() throws {
        let folder = try TestFolder()
        let lines = try check(refused(folder, "-DCREATE_OVERSTATES"), in: folder)
        #expect(lines.count == 1)
        #expect(lines.first?.hasSuffix("xxx") == true)
        #expect((lines.first?.count ?? 0) < 70_000)
    }

    @Test("Control characters in a plugin's error are escaped")
    func createEscapes() throws {
        let folder = try TestFolder()
        let lines = try check(refused(folder, #"-DCREATE_REFUSES="name: is \033[31mred\rhidden""#), in: folder)
        #expect(lines.count == 1)
        #expect(lines.first?.utf8.contains { $0 < 0x20 } == false)
    }

    @Test("The refusals of all receivers are reported at once")
    func several() throws {
        let folder = try TestFolder()
        let text = RunningGateway.config([
            ("one", #"{ "plugin": "\#(folder.path("libnone.so"))" }"#),
            ("two", #"{ "plugin": "\#(try refused(folder, "-DENTRY_ANSWERS_NULL"))" }"#),
            ("three", #"{ "plugin": "FileSink", "config": { "folder": "x" } }"#),
        ])
        let result = try ChildProcess.run([Project.built("gateway"), "check", "--config", folder.write("gateway.json", text)])
        #expect(result.status == 1)
        let paths = ["receivers.one.plugin: ", "receivers.two.plugin: ", "receivers.three.config"]
        let lines = result.out.split(separator: "\n")
        for path in paths { #expect(lines.contains { $0.contains(path) }) }
    }

    // MARK: Owner and mode of the file

    @Test("A file that everybody can write is refused")
    func fileWritableByOthers() throws {
        let folder = try TestFolder()
        let path = try refused(folder)
        chmod(path, 0o777)
        try expectRefusal(of: path, in: folder, "\(path) is writable by everybody", "chmod go-w")
    }

    @Test("A folder that everybody can write is refused, sticky or not", arguments: [mode_t(0o777), 0o1777])
    func folderWritableByOthers(mode: mode_t) throws {
        let folder = try TestFolder()
        let inner = try folder.folder("open", mode: mode)
        try expectRefusal(of: try refused(folder, at: "open/librefused.so"), in: folder, "\(inner) is writable by everybody", "chmod go-w")
    }

    @Test("A parent folder that everybody can write is refused")
    func parentWritableByOthers() throws {
        let folder = try TestFolder()
        let outer = try folder.folder("open", mode: 0o777)
        _ = try folder.folder("open/inner")
        try expectRefusal(
            of: try refused(folder, at: "open/inner/librefused.so"), in: folder, "\(outer) is writable by everybody", "chmod go-w")
    }

    @Test("A sticky parent folder, such as /tmp, is accepted")
    func stickyParent() throws {
        let folder = try TestFolder()
        _ = try folder.folder("open", mode: 0o1777)
        _ = try folder.folder("open/inner")
        let path = try refused(folder, at: "open/inner/librefused.so")
        let file = try folder.write("gateway.json", RunningGateway.config([("sink", "{ \"plugin\": \"\(path)\" }")]))
        #expect(try ChildProcess.run([Project.built("gateway"), "check", "--config", file]).status == 0)
    }

    @Test("A link in a folder that everybody can write is refused, although its target is safe")
    func linkInOpenFolder() throws {
        let folder = try TestFolder()
        let path = try refused(folder)
        let open = try folder.folder("open", mode: 0o777)
        try #require(symlink(path, folder.path("open/librefused.so")) == 0)
        try expectRefusal(of: folder.path("open/librefused.so"), in: folder, "\(open) is writable by everybody")
    }

    @Test("The target of a safe link is checked")
    func linkToOpenFolder() throws {
        let folder = try TestFolder()
        let open = try folder.folder("open", mode: 0o777)
        let path = try refused(folder, at: "open/librefused.so")
        try #require(symlink(path, folder.path("liblink.so")) == 0)
        try expectRefusal(of: folder.path("liblink.so"), in: folder, "\(open) is writable by everybody")
    }

    @Test("A file of another user is refused", .enabled(if: geteuid() == 0, "only root can give files away"))
    func fileOfAnother() throws {
        let folder = try TestFolder()
        let path = try refused(folder)
        try #require(chown(path, 65534, 65534) == 0)
        try expectRefusal(of: path, in: folder, "\(path) belongs to user 65534")
    }

    @Test("A folder of another user is refused", .enabled(if: geteuid() == 0, "only root can give files away"))
    func folderOfAnother() throws {
        let folder = try TestFolder()
        let inner = try folder.folder("theirs")
        let path = try refused(folder, at: "theirs/librefused.so")
        try #require(chown(inner, 65534, 65534) == 0)
        try expectRefusal(of: path, in: folder, "\(inner) belongs to user 65534")
    }

    @Test("A file that another group can write is refused", .enabled(if: geteuid() == 0, "only root can give files away"))
    func fileOfAnotherGroup() throws {
        let folder = try TestFolder()
        let path = try refused(folder)
        try #require(chown(path, 0, 65534) == 0)
        chmod(path, 0o775)
        try expectRefusal(of: path, in: folder, "\(path) is writable by group 65534")
    }

    // MARK: run

    @Test("run reports the same and exits with 1")
    func runRefuses() throws {
        let folder = try TestFolder()
        let path = try refused(folder, "-DENTRY_ANSWERS_NULL")
        let file = try folder.write("gateway.json", RunningGateway.config([("sink", "{ \"plugin\": \"\(path)\" }")]))
        let result = try ChildProcess.run([try Project.built("gateway"), "run", "--config", file], in: folder.path)
        #expect(result.status == 1)
        #expect(result.err.contains("sink"))
        #expect(result.err.contains("\(path) declines this gateway"))
        #expect(!result.err.contains("msg=listening"))
    }
}
