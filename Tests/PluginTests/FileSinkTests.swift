import Foundation
import PluginABI
import Testing

@testable import TestSupport

@Suite("FileSink through its shared object")
struct FileSinkTests {
    private let folder: TestFolder
    private let host = TestHost()
    private let sink: LoadedInstance

    private var archive: String { folder.path("archive") }
    /// The path of the profile that ``TestProfile`` makes by default, without its extension.
    private let place = "anonymous/checkout/2026/01/31/23/20260131T235959.123456789Z-7"

    init() throws {
        folder = try TestFolder()
        sink = try LoadedPlugin.release("FileSink").create(#"{"directory":"\#(folder.path("archive"))"}"#, host)
    }

    private func file(_ name: String) -> String { "\(archive)/\(name)" }

    private func metadata(_ name: String) throws -> [String: Any] {
        let object = try JSONSerialization.jsonObject(with: Data(TestFolder.bytes(of: file(name))))
        return try #require(object as? [String: Any])
    }

    private func sha256(_ path: String) throws -> String {
        String(try ChildProcess.run(["sha256sum", path]).out.prefix(64))
    }

    // MARK: What is archived

    @Test("A delivered profile is in the folder of its tenant, service and hour, with its metadata next to it")
    func layout() throws {
        let bytes = (0..<100_000).map { UInt8(truncatingIfNeeded: $0 &* 31) }
        #expect(try sink.deliver(TestProfile(samples: [("", bytes)])).status == .delivered)
        #expect(TestFolder.files(below: archive) == ["\(place).json", "\(place).pprof"])
        #expect(try TestFolder.bytes(of: file("\(place).pprof")) == bytes)
    }

    @Test("The metadata contains all members of the profile")
    func metadata() throws {
        let profile = TestProfile(
            sequence: 18_446_744_073_709_551_615, from: 1_769_900_000_000_000_000, until: 1_769_900_010_000_000_000, tenant: "team-a",
            labels: [("__name__", "checkout"), ("note", "a\"b\\c\n\u{1}é"), ("service_name", "shop/checkout")],
            path: "/pyroscope/ingest", query: "name=checkout%7B%7D&format=jfr&x=%0A", format: "jfr",
            contentType: "application/octet-stream", contentEncoding: "gzip",
            headers: [("traceparent", "00-1"), ("traceparent", "00-2"), ("user-agent", "pyroscope-java/1")],
            samples: [("", Array("recording".utf8))])
        #expect(try sink.deliver(profile).status == .delivered)
        let stem = "team-a/shop%2Fcheckout/2026/01/31/23/20260131T235959.123456789Z-18446744073709551615"
        #expect(TestFolder.files(below: archive) == ["\(stem).jfr", "\(stem).json"])
        let text = try Project.text(of: file("\(stem).json"))
        let metadata = try metadata("\(stem).json")
        #expect(
            Set(metadata.keys) == [
                "version", "sequence", "received", "received_ns", "from_ns", "until_ns", "api", "tenant", "labels", "path", "query",
                "format", "content_type", "content_encoding", "headers", "samples",
            ])
        #expect(metadata["version"] as? Int == 1)
        // Numbers of 64 bits are written in full, although readers that use doubles would round them.
        #expect(text.contains("\"sequence\": 18446744073709551615"))
        #expect(text.contains("\"received_ns\": 1769903999123456789"))
        #expect(
            metadata["received"] as? String == "2026-01-31T23:59:59.123456789Z"
                || metadata["received"] as? String == "2026-01-31T23:59:59.123Z")
        #expect(metadata["from_ns"] as? Int == 1_769_900_000_000_000_000)
        #expect(metadata["until_ns"] as? Int == 1_769_900_010_000_000_000)
        #expect(metadata["api"] as? String == "ingest")
        #expect(metadata["tenant"] as? String == "team-a")
        #expect(
            metadata["labels"] as? [String: String] == [
                "__name__": "checkout", "note": "a\"b\\c\n\u{1}é", "service_name": "shop/checkout",
            ])
        #expect(metadata["path"] as? String == "/pyroscope/ingest")
        #expect(metadata["query"] as? String == "name=checkout%7B%7D&format=jfr&x=%0A")
        #expect(metadata["format"] as? String == "jfr")
        #expect(metadata["content_type"] as? String == "application/octet-stream")
        #expect(metadata["content_encoding"] as? String == "gzip")
        #expect(
            metadata["headers"] as? [[String]] == [["traceparent", "00-1"], ["traceparent", "00-2"], ["user-agent", "pyroscope-java/1"]])
        let samples = try #require(metadata["samples"] as? [[String: Any]])
        #expect(samples.count == 1)
        #expect(samples.first?["id"] as? String == "")
        #expect(samples.first?["size"] as? Int == 9)
        #expect(samples.first?["sha256"] as? String == (try sha256(file("\(stem).jfr"))))
        #expect(samples.first.flatMap { $0["file"] as? String }.map { stem.hasSuffix($0.replacing(".jfr", with: "")) } == true)
    }

    @Test("A profile of several samples has a numbered file for each, and one metadata file")
    func severalSamples() throws {
        let samples = [("0001", Array("first".utf8)), ("0002", []), ("0003", Array("third".utf8))] as [(id: String, bytes: [UInt8])]
        #expect(try sink.deliver(TestProfile(api: .push, samples: samples)).status == .delivered)
        #expect(
            TestFolder.files(below: archive) == [
                "\(place)-0.pprof", "\(place)-1.pprof", "\(place)-2.pprof", "\(place).json",
            ])
        #expect(try Project.text(of: file("\(place)-2.pprof")) == "third")
        #expect(try TestFolder.bytes(of: file("\(place)-1.pprof")) == [])
        let metadata = try metadata("\(place).json")
        #expect(metadata["api"] as? String == "push")
        let entries = try #require(metadata["samples"] as? [[String: Any]])
        #expect(entries.map { $0["id"] as? String } == ["0001", "0002", "0003"])
        for (index, entry) in entries.enumerated() {
            #expect(entry["sha256"] as? String == (try sha256(file("\(place)-\(index).pprof"))))
        }
    }

    @Test(
        "The file extension follows the format",
        arguments: [("folded", "folded"), ("jfr", "jfr"), ("lines", "lines"), ("speedscope", "speedscope.json"), ("trie", "trie")])
    func endings(format: String, ending: String) throws {
        #expect(try sink.deliver(TestProfile(format: format)).status == .delivered)
        #expect(TestFolder.files(below: archive) == ["\(place).\(ending)", "\(place).json"].sorted())
    }

    @Test("An empty profile is archived as an empty file")
    func emptyProfile() throws {
        #expect(try sink.deliver(TestProfile(samples: [("", [])])).status == .delivered)
        #expect(try TestFolder.bytes(of: file("\(place).pprof")) == [])
    }

    @Test(
        "The folder is the hour in UTC, also on leap days and before 1970",
        arguments: [
            (Int64(1_709_164_800_000_000_001), "2024/02/29/00/20240229T000000.000000001Z-7"),
            (Int64(0), "1970/01/01/00/19700101T000000.000000000Z-7"),
            (Int64(-1), "1969/12/31/23/19691231T235959.999999999Z-7"),
            (Int64(4_102_444_799_999_999_999), "2099/12/31/23/20991231T235959.999999999Z-7"),
        ])
    func hours(time: Int64, place: String) throws {
        #expect(try sink.deliver(TestProfile(receivedAt: time)).status == .delivered)
        #expect(TestFolder.files(below: archive).contains("anonymous/checkout/\(place).pprof"))
    }

    // MARK: Names from the network

    @Test(
        "Names from senders cannot leave the directory",
        arguments: [
            ("../../etc", "%2E.%2F..%2Fetc"), ("..", "%2E."), (".", "%2E"), (".hidden", "%2Ehidden"), ("a/b", "a%2Fb"),
            ("/abs", "%2Fabs"), ("a b", "a%20b"), ("caf\u{e9}", "caf%C3%A9"), ("100%", "100%25"), ("x\n\u{7f}", "x%0A%7F"),
            ("A.b_c-9", "A.b_c-9"), ("~root", "~root".replacing("~", with: "%7E")),
        ])
    func names(name: String, component: String) throws {
        let labels = [("__name__", "x"), ("service_name", name)] as [TestProfile.Pair]
        #expect(try sink.deliver(TestProfile(tenant: name, labels: labels)).status == .delivered)
        let files = TestFolder.files(below: archive)
        #expect(files.count == 2)
        #expect(files.allSatisfy { $0.hasPrefix("\(component)/\(component)/2026/01/31/23/") })
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path) == ["archive"])
    }

    @Test("A name over 200 bytes is cut and ends in its hash, so that names stay distinct")
    func longNames() throws {
        let long = String(repeating: "n", count: 5000)
        for (index, name) in [long + "a", long + "b", String(repeating: "m", count: 200), String(repeating: "é", count: 34)].enumerated() {
            let labels = [("__name__", "x"), ("service_name", name)] as [TestProfile.Pair]
            #expect(try sink.deliver(TestProfile(sequence: UInt64(index), labels: labels)).status == .delivered)
        }
        let services = try FileManager.default.contentsOfDirectory(atPath: file("anonymous"))
        #expect(Set(services).count == 4)
        #expect(services.allSatisfy { $0.utf8.count <= 200 })
        #expect(services.contains(String(repeating: "m", count: 200)))
        #expect(services.filter { $0.hasPrefix(String(repeating: "n", count: 100)) }.count == 2)
    }

    @Test("A profile without a service name has a folder too")
    func noServiceName() throws {
        #expect(try sink.deliver(TestProfile(labels: [])).status == .delivered)
        #expect(TestFolder.files(below: archive).allSatisfy { $0.split(separator: "/").count == 7 })
    }

    // MARK: Repeated deliveries

    @Test("Repeating a delivery succeeds and changes nothing")
    func sameAgain() throws {
        let profile = TestProfile()
        #expect(try sink.deliver(profile).status == .delivered)
        let before = try TestFolder.bytes(of: file("\(place).json"))
        #expect(try sink.deliver(profile, attempt: 2).status == .delivered)
        #expect(TestFolder.files(below: archive) == ["\(place).json", "\(place).pprof"])
        #expect(try TestFolder.bytes(of: file("\(place).json")) == before)
    }

    @Test("Other bytes for the same name are rejected, and the archive keeps the old ones")
    func conflict() throws {
        #expect(try sink.deliver(TestProfile()).status == .delivered)
        let metadata = try TestFolder.bytes(of: file("\(place).json"))
        let outcome = try sink.deliver(TestProfile(samples: [("", Array("other!!".utf8))]))
        #expect(outcome.status == .rejected)
        #expect(outcome.reason.contains("\(place).pprof"))
        #expect(try Project.text(of: file("\(place).pprof")) == "profile")
        #expect(try TestFolder.bytes(of: file("\(place).json")) == metadata)
        #expect(TestFolder.files(below: archive).count == 2)
    }

    @Test("A delivery that was interrupted is completed by the next attempt")
    func resumed() throws {
        #expect(try sink.deliver(TestProfile()).status == .delivered)
        try FileManager.default.removeItem(atPath: file("\(place).json"))
        #expect(try sink.deliver(TestProfile(), attempt: 2).status == .delivered)
        #expect(TestFolder.files(below: archive) == ["\(place).json", "\(place).pprof"])
    }

    @Test("Two receivers that share a directory report delivered only once the file is complete", .timeLimit(.minutes(5)))
    func sharedDirectory() throws {
        let other = try LoadedPlugin.release("FileSink").create(#"{"directory":"\#(archive)"}"#, TestHost())
        let body = [UInt8](repeating: 0x5A, count: 4 << 20)
        for round in 0..<30 {
            let profile = TestProfile(sequence: UInt64(round), samples: [("", body)])
            let tokens = (sink.begin(profile), other.begin(profile))
            let path = file("anonymous/checkout/2026/01/31/23/20260131T235959.123456789Z-\(round).pprof")
            let whole = { try TestFolder.bytes(of: path) == body }
            if try host.outcome(of: tokens.0).status == .delivered { #expect(try whole()) }
            if try other.host.outcome(of: tokens.1).status == .delivered { #expect(try whole()) }
        }
    }

    // MARK: Errors

    @Test("An unwritable folder causes a retry and failed health until it is writable")
    func unwritable() throws {
        // Root ignores file modes, but cannot create a folder below a file either.
        try Data().write(to: URL(fileURLWithPath: file("anonymous")))
        let outcome = try sink.deliver(TestProfile())
        #expect(outcome.status == .retry)
        #expect(outcome.reason.contains("\(archive)/anonymous"))
        let reason = try host.health("failed") { $0 == .failed }
        #expect(reason.contains("\(archive)/anonymous"))
        try FileManager.default.removeItem(atPath: file("anonymous"))
        #expect(try sink.deliver(TestProfile(), attempt: 2).status == .delivered)
        _ = try host.health("ok", after: 1) { $0 == .ok }
    }

    @Test("A profile whose file cannot be renamed is retried, and leaves no temporary file")
    func halfWritten() throws {
        try FileManager.default.createDirectory(atPath: "\(file(place)).json", withIntermediateDirectories: true)
        #expect(try sink.deliver(TestProfile()).status == .retry)
        #expect(TestFolder.files(below: archive).filter { $0.hasSuffix(".tmp") } == [])
        try FileManager.default.removeItem(atPath: "\(file(place)).json")
        #expect(try sink.deliver(TestProfile(), attempt: 2).status == .delivered)
    }

    @Test("Many open deliveries are all archived")
    func manyAtOnce() throws {
        let profiles = (0..<200).map { TestProfile(sequence: UInt64($0), samples: [("", Array("body \($0)".utf8))]) }
        let tokens = profiles.map { sink.begin($0) }
        for token in tokens { #expect(try host.outcome(of: token).status == .delivered) }
        #expect(TestFolder.files(below: archive).count == 400)
        for number in 0..<200 {
            let name = "anonymous/checkout/2026/01/31/23/20260131T235959.123456789Z-\(number).pprof"
            #expect(try Project.text(of: file(name)) == "body \(number)")
        }
        #expect(host.said.current.finishes.count == 200)
    }

    @Test("A flush finishes after all earlier deliveries")
    func flush() throws {
        let profiles = (0..<8).map { TestProfile(sequence: UInt64($0), samples: [("", [UInt8](repeating: 1, count: 4 << 20))]) }
        let tokens = profiles.map { sink.begin($0) }
        let flush = sink.flush()
        #expect(try host.outcome(of: flush).status == .delivered)
        let before = host.said.current.finishes.map(\.token).prefix { $0 != flush }
        #expect(before.count == tokens.count)
        for token in tokens { _ = try host.outcome(of: token) }
    }

    @Test("Abort ends every open delivery once")
    func abort() throws {
        let profiles = (0..<50).map { TestProfile(sequence: UInt64($0), samples: [("", [UInt8](repeating: 1, count: 1 << 20))]) }
        let tokens = profiles.map { sink.begin($0) }
        sink.abort()
        for token in tokens {
            let status = try host.outcome(of: token).status
            #expect(status == .delivered || status == .aborted)
        }
        sink.destroy()
        #expect(host.said.current.finishes.count == 50)
        #expect(TestFolder.files(below: archive).filter { $0.hasSuffix(".tmp") } == [])
    }

    @Test("A profile is not accessed after its delivery is finished")
    func untouchedAfterFinish() async throws {
        await #expect(processExitsWith: .success) {
            let folder = try TestFolder()
            let host = TestHost()
            let sink = try LoadedPlugin.release("FileSink").create(#"{"directory":"\#(folder.path)"}"#, host)
            let tokens = (0..<100).map { number in
                sink.begin(
                    TestProfile(sequence: UInt64(number), samples: [("", [UInt8](repeating: 1, count: 10_000))]), isForbiddenAfter: true)
            }
            for token in tokens { #expect(try host.outcome(of: token).status == .delivered) }
            sink.destroy()
            #expect(TestHost.retained.current.values.allSatisfy { $0 == 0 })
        }
    }

    @Test("Temporary files of dead processes are removed after the first delivery, and all other files stay")
    func leftovers() throws {
        let hour = "anonymous/other/2026/01/31/22"
        try FileManager.default.createDirectory(atPath: file(hour), withIntermediateDirectories: true)
        let name = ".20260131T225959.123456789Z-7.pprof"
        // No process has the first ID, and the third name has a start time that is not that of this process.
        let gone = ["\(name).\(Int32.max)-0.tmp", "\(name).\(Int32.max)-12-34.tmp", "\(name).\(getpid())-0-1.tmp"]
        let kept = [
            "\(name).\(getpid())-0.tmp", ".notes.\(Int32.max)-0.tmp", ".notes.tmp", "\(name).tmp", "\(name).\(Int32.max)-x.tmp",
            String("\(name).\(Int32.max)-0.tmp".dropFirst()),
        ]
        for file in gone + kept { _ = try folder.write("archive/\(hour)/\(file)", "half") }
        #expect(try sink.deliver(TestProfile()).status == .delivered)
        #expect(try host.outcome(of: sink.flush()).status == .delivered)
        #expect(try FileManager.default.contentsOfDirectory(atPath: file(hour)).sorted() == kept.sorted())
    }

    // MARK: Config

    @Test("A new instance creates only its directory")
    func makesDirectory() throws {
        let path = folder.path("a/b/c")
        let made = try LoadedPlugin.release("FileSink").create(#"{"directory":"\#(path)"}"#, TestHost())
        var isFolder: ObjCBool = false
        #expect(FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) && isFolder.boolValue)
        #expect(TestFolder.files(below: folder.path) == [])
        made.destroy()
    }

    @Test(
        "A config error names the member",
        arguments: [
            ("{}", "directory: is required"), (#"{"directory":""}"#, "directory: is required"),
            (#"{"directory":7}"#, "directory: must be a string"), (#"[]"#, "must be an object"),
            (#"{"directory":"/tmp","directory":"/tmp"}"#, "directory"),
        ])
    func configErrors(config: String, problem: String) throws {
        let lines = try LoadedPlugin.release("FileSink").refusal(of: config)
        #expect(lines.contains { $0.contains(problem) })
    }

    @Test("All problems of a config are listed, one on each line")
    func allAtOnce() throws {
        let lines = try LoadedPlugin.release("FileSink").refusal(of: #"{"directroy":"x","compress":true,"level":9}"#)
        #expect(lines.count == 4)
        #expect(lines.contains { $0.hasPrefix("directory: is required") })
        #expect(lines.contains { $0.hasPrefix("directroy: unknown; did you mean directory?") })
        #expect(lines.contains { $0.hasPrefix("compress: unknown") })
        #expect(lines.contains { $0.hasPrefix("level: unknown") })
    }
}
