import Foundation
import Testing

@testable import TestSupport

@Suite("gateway plugin new")
struct PluginNewTests {
    private static func new(_ words: [String], in folder: TestFolder) throws -> ChildProcess.Ended {
        try ChildProcess.run([try Project.built("gateway"), "plugin", "new"] + words, in: folder.path)
    }

    private static func make(_ words: [String], in project: String) throws -> ChildProcess.Ended {
        // The options of a make that runs the tests are not meant for this one.
        try ChildProcess(
            ["make", "GATEWAY=\(try Project.built("gateway"))"] + words, folder: project, environment: ["MAKEFLAGS": ""]
        ).wait()
    }

    // MARK: Projects

    @Test(
        "A new project builds, keeps every rule and delivers a profile",
        arguments: [("c", ["CC=gcc"]), ("c", ["CC=clang"]), ("cpp", ["CXX=g++"]), ("cpp", ["CXX=clang++"])])
    func works(language: String, compiler: [String]) throws {
        let folder = try TestFolder()
        let told = try Self.new(["my-sink", "--language", language], in: folder)
        #expect(told.status == 0 && told.out.contains("cd my-sink\n  make test\n"), "\(told)")
        let project = folder.path("my-sink")
        let built = try Self.make(compiler, in: project)
        #expect(built.status == 0 && built.err == "", "\(built)")
        let symbols = try ChildProcess.run(["nm", "-D", "--defined-only", "\(project)/my-sink.so"]).out.split(separator: "\n")
        #expect(symbols.count == 1 && symbols.first?.hasSuffix(" gw_plugin_v1") == true, "\(symbols)")
        let checked = try Self.make(["check"], in: project)
        #expect(checked.status == 0, "\(checked)")
        let before = TestFolder.files(below: project)
        let tested = try Self.make(["test"], in: project)
        #expect(tested.status == 0 && tested.out.contains("the profile was delivered"), "\(tested)")
        #expect(TestFolder.files(below: project) == before)
    }

    @Test("A plugin that was just made refuses a wrong config, and tries again what it cannot write", arguments: ["c", "cpp"])
    func refusals(language: String) throws {
        let folder = try TestFolder()
        #expect(try Self.new(["my-sink", "--language", language], in: folder).status == 0)
        #expect(try Self.make([], in: folder.path("my-sink")).status == 0)
        func receiver(_ config: String) -> String {
            "{ \"plugin\": \"my-sink/my-sink.so\", \"config\": \(config), \(ReceiverEntry.quickRetry) }"
        }
        let wrong = [
            ("{}", "path: must be a string"), (#"{"path":7}"#, "path: must be a string"),
            (#"{"path":"x","pth":1}"#, "pth: unknown"), (#"{"path":""}"#, "path: must"),
        ]
        for (config, text) in wrong {
            let file = try folder.write("gateway.json", RunningGateway.config([("sink", receiver(config))]))
            let checked = try ChildProcess.run([try Project.built("gateway"), "check", "--config", file], in: folder.path)
            #expect(checked.status == 1 && (checked.out + checked.err).contains(text), "\(checked)")
        }
        let gateway = try RunningGateway([("sink", receiver(#"{"path":"missing/profiles.txt"}"#))], in: folder)
        #expect(try gateway.send() == "200")
        try gateway.logLine("receiver is failed", "No such file or directory")
        _ = try folder.folder("missing")
        try gateway.wait(forMetric: "gateway_profiles_delivered_total{receiver=\"sink\"}", toBe: "1")
        try gateway.logLine("receiver is ok")
        #expect(
            try Project.text(of: folder.path("missing/profiles.txt")) == "__name__=checkout service_name=checkout 12 bytes\n")
    }

    @Test(
        "A project in C++ is called by its name, whatever that is",
        arguments: ["a", "x-", "a--1", "int-2-x", String(repeating: "q", count: 40)])
    func names(name: String) throws {
        let folder = try TestFolder()
        #expect(try Self.new([name, "--language=cpp", "--in", folder.path], in: folder).status == 0)
        let built = try Self.make([], in: folder.path(name))
        #expect(built.status == 0, "\(built)")
    }

    // MARK: What is embedded

    /// The languages of `Templates`, which also has a folder of what they share.
    private static let languages: [String] = {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: "\(Project.root)/Templates")) ?? []
        return names.filter { $0 != "shared" }.sorted()
    }()

    /// A text with what my-sink has in the place of the placeholders.
    private static func filled(_ text: String, _ version: String) -> String {
        [("@NAME@", "my-sink"), ("@IDENT@", "my_sink"), ("@TYPE@", "MySink"), ("@VERSION@", version), ("@PACKAGE@", package)]
            .reduce(text) { $0.replacing($1.0, with: $1.1) }
    }

    private static let package = ".package(name: \"profile-gateway\", path: \"\(Project.root)\")"

    @Test("A project has every file of its templates, filled in, and copies of files of this repository beside them", arguments: languages)
    func embedded(language: String) throws {
        let folder = try TestFolder()
        let told = try Self.new(["my-sink", "--language", language], in: folder)
        try #require(told.status == 0, "\(told)")
        let version = try ChildProcess.run([try Project.built("gateway"), "version"]).out.split(whereSeparator: \.isWhitespace)[1]
        var left = Set(TestFolder.files(below: folder.path("my-sink")))
        for place in ["\(Project.root)/Templates/\(language)", "\(Project.root)/Templates/shared"] {
            for file in TestFolder.files(below: place) {
                let path = Self.filled(file, String(version))
                guard left.remove(path) != nil else {
                    #expect(place.hasSuffix("shared"), "\(file) of the templates for \(language) is not written")
                    continue
                }
                let written = try Project.text(of: folder.path("my-sink/\(path)"))
                #expect(written == Self.filled(try Project.text(of: "\(place)/\(file)"), String(version)), "\(path)")
                let isProgram = FileManager.default.isExecutableFile(atPath: folder.path("my-sink/\(path)"))
                #expect(isProgram == written.hasPrefix("#!"), "\(path)")
            }
        }
        let sources = [Project.headerFolder, "\(Project.root)/bindings/\(language)"].flatMap { place in
            TestFolder.files(below: place).map { (name: $0, path: "\(place)/\($0)") }
        }
        for path in left {
            let same = sources.filter { path.hasSuffix("/\($0.name)") }
            #expect(!same.isEmpty, "\(path) is no copy of a file of this repository")
            for file in same {
                let isSame = try TestFolder.bytes(of: folder.path("my-sink/\(path)")) == TestFolder.bytes(of: file.path)
                #expect(isSame, "\(path) is not as \(file.path)")
            }
        }
    }

    @Test("Every file that the languages share is in a project of one of them")
    func shared() throws {
        let folder = try TestFolder()
        for language in Self.languages { _ = try Self.new([language, "--language", language], in: folder) }
        for file in TestFolder.files(below: "\(Project.root)/Templates/shared") {
            #expect(Self.languages.contains { access(folder.path("\($0)/\(file)"), F_OK) == 0 }, "\(file)")
        }
    }

    // MARK: Refusals

    @Test(
        "A wrong command line is refused",
        arguments: [
            ([], "one NAME"), (["a", "b", "--language", "c"], "one NAME"), (["My-Sink", "--language", "c"], "lower-case letters"),
            (["1x", "--language", "c"], "begins with a letter"), (["", "--language", "c"], "cannot be a plugin's name"),
            (["../x", "--language", "c"], "cannot be"), (["a_b", "--language", "c"], "cannot be"),
            (["-x", "--language", "c"], "cannot be"),
            (["ä", "--language", "c"], "cannot be"), ([String(repeating: "a", count: 41), "--language", "c"], "at most 40"),
            (["x"], "needs --language"),
            (["x", "--language", "cobol"], "no templates for \"cobol\"; the languages are c, cpp, rust, go, swift"),
            (["x", "--language", "c", "--gateway", "."], "--gateway is for"), (["x", "--language", "c", "--odd"], "unknown option"),
        ])
    func usage(words: [String], text: String) throws {
        let folder = try TestFolder()
        let told = try Self.new(words, in: folder)
        #expect(told.status == 2 && told.err.contains(text) && told.out == "", "\(told)")
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path) == [])
    }

    @Test("Nothing that is there is touched, and an empty folder is filled")
    func existing() throws {
        let folder = try TestFolder()
        _ = try folder.folder("full/inner")
        try folder.write("file", "text")
        _ = try folder.link("link", to: try folder.folder("empty"))
        for (name, reason) in [("full", "exists and is not empty"), ("file", "something else"), ("link", "something else")] {
            let told = try Self.new([name, "--language", "c"], in: folder)
            #expect(told.status == 1 && told.err.contains(reason) && told.out == "", "\(told)")
        }
        #expect(TestFolder.files(below: folder.path) == ["file"])
        #expect(try Self.new(["empty", "--language", "c"], in: folder).status == 0)
        #expect(TestFolder.files(below: folder.path).contains("empty/empty.c"))
        #expect(try Self.new(["empty", "--language", "c"], in: folder).status == 1)
    }

    @Test(
        "A project that cannot be written leaves nothing behind",
        .disabled(if: Project.isSanitized, "a sanitizer writes a file of its own, which is larger than the limit"))
    func unwritable() throws {
        let folder = try TestFolder()
        for place in ["/proc", folder.path("missing")] {
            let told = try Self.new(["x", "--language", "c", "--in", place], in: folder)
            #expect(told.status == 1 && told.err.contains("No such file or directory"), "\(told)")
        }
        // No file may have more than 8 KiB, and the header has.
        let gateway = try Project.built("gateway")
        let told = try ChildProcess.run(["bash", "-c", "ulimit -f 8 && exec \"$0\" plugin new x --language c", gateway], in: folder.path)
        #expect(told.status == 1 && told.err.contains("File too large"), "\(told)")
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path) == [])
    }
}
