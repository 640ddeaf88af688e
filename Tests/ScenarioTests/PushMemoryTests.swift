import Testing

@testable import TestSupport

@Suite("Memory used by Pushes", .serialized)
struct PushMemoryTests {
    private static let mebibyte = 1 << 20

    /// Sends a file as a Push, checks its status and how much the peak of resident memory grew.
    private func push(
        _ file: String, _ type: String, isCompressed: Bool = true, query: String = "", limits: String = "", grows limit: Int,
        expect status: Int?,
        make: (Scenario) throws -> Void
    ) throws {
        try Scenario.run { scenario in
            try make(scenario)
            let gateway = try GatewayProcess(
                scenario, receivers: ["console": ReceiverEntry.console()], http: LargePushTests.patient, more: limits)
            // The first profile causes allocations that happen only once.
            #expect(try gateway.push(.numbered(1)).status == 200)
            let before = try gateway.peakMemory()
            let encoding = isCompressed ? ["-H", "Content-Encoding: gzip"] : []
            let answer = try Curl.post(
                scenario, gateway.port, GatewayProcess.pushPath + query, file: scenario.path(file),
                ["-H", "Content-Type: application/\(type)"] + encoding)
            #expect(status == nil || answer.status == status, "\(answer.status) \(answer.body.prefix(200))")
            // A sanitizer adds to each allocation and keeps freed memory, which does not count.
            if !Project.isSanitized { #expect(try gateway.peakMemory() - before <= limit) }
            #expect(try gateway.push(.numbered(2)).status == 200, "it goes on")
            try gateway.waitForMetrics("quiet") { $0.queued("console") == 0 }
        }
    }

    /// Runs a shell command in the scenario's folder.
    private static func shell(_ scenario: Scenario, _ command: String) throws {
        try #require(try scenario.start(["sh", "-c", command]).waitForExit() == 0)
    }

    @Test("64 MiB of compressed zeros cost no more than max_decompressed_size allows", arguments: ["proto", "json"])
    func bomb(type: String) throws {
        try push(
            "zeros.gz", type, limits: "\"limits\": { \"max_decompressed_size\": \"1MiB\" },", grows: 16 * Self.mebibyte, expect: 429
        ) { try Self.shell($0, "head -c 67108864 /dev/zero | gzip > zeros.gz") }
    }

    @Test("A gzip bomb of many members is stopped like one of a single member")
    func bombOfMembers() throws {
        try push(
            "zeros.gz", "proto", limits: "\"limits\": { \"max_decompressed_size\": \"1MiB\" },", grows: 16 * Self.mebibyte, expect: 429
        ) { try Self.shell($0, "head -c 65536 /dev/zero | gzip > one.gz; for i in $(seq 1024); do cat one.gz; done > zeros.gz") }
    }

    @Test("The largest number of empty series does not copy the query and User-Agent for each")
    func manySeries() throws {
        let query = "?" + String(repeating: "q", count: 8000)
        try push("series", "proto", isCompressed: false, query: query, grows: 64 * Self.mebibyte, expect: 200) {
            try Self.shell($0, "python3 -c 'open(\"series\", \"wb\").write(b\"\\n\\0\" * 16384)'")
        }
    }

    @Test("On disk each series has its own copy of the query, up to 16 MiB in all", arguments: [(400, 200), (8000, 400)])
    func manySeriesOnDisk(length: Int, status: Int) throws {
        let query = "?" + String(repeating: "q", count: length)
        try push(
            "series", "proto", isCompressed: false, query: query, limits: SpoolMembers.members(), grows: 64 * Self.mebibyte, expect: status
        ) { try Self.shell($0, "python3 -c 'open(\"series\", \"wb\").write(b\"\\n\\0\" * 16384)'") }
    }

    @Test("A million levels of nesting are refused", arguments: ["proto", "json"])
    func nesting(type: String) throws {
        let nested = type == "json" ? "b\"[\" * 1000000" : "b\"K\" * 1000000"
        try push("nested", type, isCompressed: false, grows: 16 * Self.mebibyte, expect: 400) {
            try Self.shell($0, "python3 -c 'open(\"nested\", \"wb\").write(b\"{\\\"x\\\":\" * \(type == "json" ? 1 : 0) + \(nested))'")
        }
    }

    @Test("Samples and labels over their limits are refused however well they compress")
    func manySamples() throws {
        try push("samples.gz", "proto", grows: 64 * Self.mebibyte, expect: 400) {
            try Self.shell($0, "python3 -c 'open(\"samples\", \"wb\").write(b\"\\n\\x04\\x12\\0\\x12\\0\" * 40000)'; gzip samples")
        }
    }

    @Test("Four million short labels, within the limits, cost memory in proportion to their bytes")
    func manyLabels() throws {
        try push("labels.gz", "proto", grows: 128 * Self.mebibyte, expect: nil) {
            let label = "b\"\\n\\x04\\n\\x02%02x\" % i"
            let script = "s = b\"\".join(\(label) for i in range(256)); open(\"labels\", \"wb\").write((b\"\\n\\x80\\x0c\" + s) * 16384)"
            try Self.shell($0, "python3 -c '\(script)' && gzip labels")
        }
    }
}
