import Foundation
import Glibc
import PluginABI
import Testing

@testable import TestSupport

/// Makes standard output a pipe until `restore` is called, which must be before the test ends: the testing library writes there then, and
/// the pipe may be full.
///
/// - Returns: the end to read from.
private func pipeOutput() throws -> (end: Int32, restore: () -> Void) {
    var ends: [Int32] = [-1, -1]
    try #require(pipe(&ends) == 0)
    let original = dup(1)
    try #require(dup2(ends[1], 1) == 1)
    return (ends[0], { dup2(original, 1) })
}

/// The next lines of a pipe, or fewer when nothing more comes in time.
private func readLines(_ count: Int, from end: Int32) -> [Substring] {
    var text: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 65536)
    var polled = pollfd(fd: end, events: Int16(POLLIN), revents: 0)
    while text.count(where: { $0 == 10 }) < count, poll(&polled, 1, Int32(Project.patience * 1000)) == 1 {
        let size = read(end, &chunk, chunk.count)
        guard size > 0 else { break }
        text += chunk[..<size]
    }
    return String(decoding: text, as: UTF8.self).split(separator: "\n")
}

/// Each test that writes runs in its own process, whose standard output is a pipe.
@Suite("StdoutSink through its shared object")
struct StdoutSinkTests {
    /// The lines that a child process wrote.
    private func lines(_ result: ExitTest.Result?) throws -> [String] {
        let text = String(decoding: try #require(result).standardOutputContent, as: UTF8.self)
        return text.split(separator: "\n", omittingEmptySubsequences: false).dropLast().map(String.init)
    }

    @Test("A profile is one line of text: time, labels, format, bytes, samples, tenant, API and sequence")
    func text() async throws {
        let result = await #expect(processExitsWith: .success, observing: [\.standardOutputContent]) {
            let sink = try LoadedPlugin.release("StdoutSink").create("{}", TestHost())
            #expect(try sink.deliver(TestProfile(tenant: "team-a")).status == .delivered)
            let samples = [("1", [1, 2, 3]), ("2", [4, 5])] as [(id: String, bytes: [UInt8])]
            #expect(try sink.deliver(TestProfile(sequence: 8, api: .push, format: "jfr", samples: samples)).status == .delivered)
            sink.destroy()
        }
        let lines = try lines(result)
        #expect(lines.count == 2)
        let first = try #require(lines.first)
        #expect(first.hasPrefix("2026-01-31T23:59:59.123"))
        for part in [#"checkout{env="prod",service_name="checkout"}"#, " pprof ", " 7 B ", " 1 sample ", #"tenant="team-a""#, " ingest"] {
            #expect(first.contains(part))
        }
        let second = try #require(lines.last)
        for part in [" jfr ", " 5 B ", " 2 samples ", " push"] { #expect(second.contains(part)) }
        #expect(!second.contains("tenant"))
    }

    @Test("With format json a profile is one JSON object on one line")
    func json() async throws {
        let result = await #expect(processExitsWith: .success, observing: [\.standardOutputContent]) {
            let sink = try LoadedPlugin.release("StdoutSink").create(#"{"format":"json"}"#, TestHost())
            let profile = TestProfile(
                from: 1_769_900_000_000_000_000, until: 1_769_900_010_000_000_000, tenant: "team-a",
                labels: [("__name__", "checkout"), ("note", "a\"b\n\u{1b}"), ("service_name", "checkout")], contentType: "text/plain")
            #expect(try sink.deliver(profile).status == .delivered)
            sink.destroy()
        }
        let lines = try lines(result)
        #expect(lines.count == 1)
        let object = try #require(try JSONSerialization.jsonObject(with: Data(lines.joined().utf8)) as? [String: Any])
        #expect(object["labels"] as? [String: String] == ["__name__": "checkout", "note": "a\"b\n\u{1b}", "service_name": "checkout"])
        #expect(object["format"] as? String == "pprof")
        #expect(object["tenant"] as? String == "team-a")
        #expect(object["bytes"] as? Int == 7)
        #expect(object["samples"] as? Int == 1)
        #expect(object["sequence"] as? Int == 7)
        #expect(object["api"] as? String == "ingest")
        #expect(object["content_type"] as? String == "text/plain")
        #expect(object["from"] as? Int == 1_769_900_000_000_000_000)
        #expect((object["time"] as? String)?.hasPrefix("2026-01-31T23:59:59.123") == true)
    }

    @Test("Control characters of a sender are escaped")
    func escapes() async throws {
        let result = await #expect(processExitsWith: .success, observing: [\.standardOutputContent]) {
            let odd = "red \u{1b}[31m\nnext\r\u{7f}\u{85}\u{9b}\u{2028}end"
            for config in ["{}", #"{"format":"json"}"#] {
                let sink = try LoadedPlugin.release("StdoutSink").create(config, TestHost())
                let profile = TestProfile(
                    tenant: odd, labels: [("__name__", odd), ("service_name", odd), (odd, odd)], contentType: odd)
                #expect(try sink.deliver(profile).status == .delivered)
                sink.destroy()
            }
        }
        let lines = try lines(result)
        #expect(lines.count == 2)
        for line in lines {
            #expect(!line.unicodeScalars.contains { $0.value < 0x20 || 0x7F...0x9F ~= $0.value || $0.value == 0x2028 })
        }
    }

    @Test("Lines of two instances that write at the same time do not mix")
    func twoInstances() async throws {
        await #expect(processExitsWith: .success) {
            // The pipe is read here: the testing library reads a child's output only when it has run the tests before it.
            let (end, restore) = try pipeOutput()
            defer { restore() }
            let plugin = try LoadedPlugin.release("StdoutSink")
            for name in ["aaaa", "bbbb"] {
                let sink = try plugin.create("{}", TestHost())
                Thread.detachNewThread {
                    // This is longer than a pipe accepts in one piece.
                    let value = String(repeating: name, count: 4096)
                    for sequence in 0..<50 {
                        let profile = TestProfile(sequence: UInt64(sequence), labels: [("__name__", "x"), ("note", value)])
                        _ = try? sink.deliver(profile)
                    }
                    sink.destroy()
                }
            }
            let lines = readLines(100, from: end)
            #expect(lines.count == 100)
            #expect(lines.filter { $0.contains(String(repeating: "aaaa", count: 4096)) }.count == 50)
            #expect(lines.filter { $0.contains(String(repeating: "bbbb", count: 4096)) }.count == 50)
        }
    }

    @Test("A reader that does not read blocks the delivery, and abort ends it")
    func abortWhileBlocked() async throws {
        await #expect(processExitsWith: .success) {
            let (end, restore) = try pipeOutput()
            defer { restore() }
            let host = TestHost()
            let sink = try LoadedPlugin.release("StdoutSink").create("{}", host)
            let hasReturned = WaitableValue(false)
            Thread.detachNewThread {
                let profile = TestProfile(labels: [("__name__", "x"), ("note", String(repeating: "n", count: 100_000))])
                _ = sink.begin(profile)
                _ = sink.begin(profile)
                hasReturned.update { $0 = true }
            }
            // One line exceeds the 64 KiB of a pipe, so only its beginning is written.
            var polled = pollfd(fd: end, events: Int16(POLLIN), revents: 0)
            try #require(poll(&polled, 1, Int32(Project.patience * 1000)) == 1)
            #expect(host.said.current.finishes.isEmpty)
            sink.abort()
            try hasReturned.wait(for: "the deliveries to return") { $0 ? true : nil }
            #expect(host.said.current.finishes.map(\.status) == [.aborted, .aborted])
            sink.destroy()
        }
    }

    @Test("An instance that waits behind another one's line is aborted alone, and an aborted line is completed before the next")
    func abortWhileWaiting() async throws {
        await #expect(processExitsWith: .success) {
            let (end, restore) = try pipeOutput()
            defer { restore() }
            let plugin = try LoadedPlugin.release("StdoutSink")
            let sinks = try (0..<3).map { _ in try plugin.create("{}", TestHost()) }
            let returned = WaitableValue<Set<Int>>([])
            func deliver(_ number: Int, _ size: Int) {
                let note = String(repeating: "\(number)", count: size)
                Thread.detachNewThread {
                    _ = sinks[number].begin(TestProfile(labels: [("__name__", "x"), ("note", note)]))
                    returned.update { $0.insert(number) }
                }
            }
            deliver(0, 100_000)
            var polled = pollfd(fd: end, events: Int16(POLLIN), revents: 0)
            try #require(poll(&polled, 1, Int32(Project.patience * 1000)) == 1)
            deliver(1, 10)
            sinks[1].abort()
            try returned.wait(for: "the one that waits") { $0 == [1] ? true : nil }
            #expect(sinks[1].host.said.current.finishes.map(\.status) == [.aborted])
            sinks[0].abort()
            try returned.wait(for: "the one that writes") { $0 == [0, 1] ? true : nil }
            deliver(2, 10)
            let lines = readLines(2, from: end)
            #expect(lines.map { $0.contains(String(repeating: "0", count: 100_000)) } == [true, false])
            #expect(lines.last?.contains("note=\"2222222222\"") == true)
            try returned.wait(for: "the last one") { $0.count == 3 ? true : nil }
            for sink in sinks { sink.destroy() }
        }
    }

    @Test("A closed reader causes a retry with a reason")
    func closedPipe() async throws {
        await #expect(processExitsWith: .success) {
            signal(SIGPIPE, SIG_IGN)
            let (end, restore) = try pipeOutput()
            defer { restore() }
            close(end)
            let sink = try LoadedPlugin.release("StdoutSink").create("{}", TestHost())
            let outcome = try sink.deliver(TestProfile())
            #expect(outcome.status == .retry)
            #expect(outcome.reason.contains("standard output"))
            sink.destroy()
        }
    }

    @Test("Unread output delays neither other receivers nor the end")
    func unreadGateway() throws {
        var ends: [Int32] = [-1, -1]
        try #require(pipe(&ends) == 0)
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        defer { for end in ends { close(end) } }
        let folder = try TestFolder()
        let gateway = try RunningGateway(
            [
                ("console", #"{ "plugin": "StdoutSink", "delivery_timeout": "200ms" }"#),
                ("archive", #"{ "plugin": "FileSink", "config": { "directory": "\#(folder.path("archive"))" } }"#),
            ],
            settings: #""shutdown_timeout": "1s","#, in: folder, stdout: .descriptor(ends[1]))
        // Twenty of these lines exceed the 64 KiB of a pipe.
        let note = String(repeating: "n", count: 6000)
        for number in 0..<20 { #expect(try gateway.send(name: "checkout{note=\(note)}", headers: ["X-Number: \(number)"]) == "200") }
        try gateway.logLine("overdue", "receiver=console")
        #expect(try gateway.status(of: "console").health == "failed")
        #expect(try gateway.status(of: "archive").health == "ok")
        try gateway.wait(forMetric: "gateway_profiles_delivered_total{receiver=\"archive\"}", toBe: "20")
        try gateway.endsWell()
        #expect(TestFolder.files(below: folder.path("archive")).count == 40)
    }

    @Test(
        "A config error names the member",
        arguments: [
            (#"{"format":"xml"}"#, #"format: must be "text" or "json", is "xml""#), (#"{"format":1}"#, "format: must be"),
            (#"{"fromat":"json"}"#, "fromat: unknown; did you mean format?"), ("7", "must be an object"), ("{", ""),
        ])
    func configErrors(config: String, problem: String) throws {
        let lines = try LoadedPlugin.release("StdoutSink").refusal(of: config)
        #expect(lines.count == 1)
        #expect(lines.allSatisfy { $0.hasPrefix(problem) })
    }

    @Test("All problems of a config are listed, one on each line")
    func allAtOnce() throws {
        let lines = try LoadedPlugin.release("StdoutSink").refusal(of: #"{"format":"xml","colour":true,"width":80}"#)
        #expect(lines.map { $0.prefix { $0 != ":" } } == ["format", "colour", "width"])
    }
}
