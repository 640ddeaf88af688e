import ConfigJSON
import Glibc
import LinuxSystem
import Profiles
import PushWire
import Telemetry

/// `gateway send`: posts files to a server as an SDK would.
enum SendCommand {
    /// The options that apply to every request of one run.
    fileprivate struct Options {
        let destination: Destination
        let name: String
        let labels: LabelSet
        let isPush: Bool
        let format: String?
        let from: String
        let until: String
    }

    static func run(_ words: [String]) throws(UsageError) -> Int32 {
        let arguments = try Arguments(
            words, options: Destination.options.union(["--name", "--format", "--from", "--until"]), flags: ["--push"])
        guard !arguments.words.isEmpty else { throw UsageError("send needs at least one file") }
        let options = try Options(arguments)
        do throws(HTTPClient.Failure) {
            return send(arguments.words, options, try HTTPClient())
        } catch {
            printError("gateway: \(error)")
            return 1
        }
    }

    private static func send(_ files: [String], _ options: Options, _ client: HTTPClient) -> Int32 {
        var progress = ProgressLine(total: files.count)
        var failures = 0
        for file in files {
            let (line, isDelivered) = send(file, options, client)
            if !isDelivered { failures += 1 }
            progress.clear()
            print("\(printable(file)): \(line)")
            progress.step(failures: failures)
        }
        progress.clear()
        return failures == 0 ? 0 : 1
    }

    /// - Returns: the line to print about one file, and whether it was delivered.
    private static func send(_ file: String, _ options: Options, _ client: HTTPClient) -> (String, Bool) {
        do {
            let bytes = try FileDescriptor.open(file, O_RDONLY).readAll(limit: 1 << 31)
            let answer = options.isPush ? try push(bytes, options, client) : try ingest(bytes, file, options, client)
            let (line, isDelivered) = options.destination.told(answer, isPush: options.isPush)
            return (line, isDelivered)
        } catch { return ("\(error)", false) }
    }

    private static func ingest(
        _ bytes: [UInt8], _ file: String, _ options: Options, _ client: HTTPClient
    ) throws -> HTTPClient.Answer {
        let format = options.format ?? guessFormat(bytes, file)
        let parameters = [
            ("name", options.name), ("from", options.from), ("until", options.until), ("format", format), ("spyName", "gateway"),
        ]
        let query = parameters.map { "\($0)=\(percentEncoded($1))" }.joined(separator: "&")
        let type = [(name: "Content-Type", value: "application/octet-stream")]
        return try unsafe options.destination.ingest(query: query, type, body: bytes.span.bytes, by: client)
    }

    private static func push(_ bytes: [UInt8], _ options: Options, _ client: HTTPClient) throws -> HTTPClient.Answer {
        try unsafe bytes.withUnsafeBytes { sample in
            let sample = unsafe PushMessage.Sample(id: randomID(), bytes: sample)
            return try options.destination.push(
                labels: options.labels.labels.map { ($0.name, $0.value) }, samples: [sample], by: client)
        }
    }

    /// A version 4 UUID (RFC 9562), as in the sample ids of SDKs.
    private static func randomID() -> String {
        let high = UInt64.random(in: 0...(.max)) & ~0xF000 | 0x4000
        let low = UInt64.random(in: 0...(.max)) & ~(3 << 62) | 2 << 62
        let digits = high.sixteenDigits + low.sixteenDigits
        let cuts = [0, 8, 12, 16, 20, 32].map { digits.index(digits.startIndex, offsetBy: $0) }
        return zip(cuts, cuts.dropFirst()).map { String(digits[$0..<$1]) }.joined(separator: "-")
    }

    /// Guesses the format of a file when none was given.
    static func guessFormat(_ bytes: [UInt8], _ file: String) -> String {
        if bytes.starts(with: "FLR\0".utf8) { return "jfr" }
        if bytes.starts(with: [0x1F, 0x8B]) { return "pprof" }
        let name = file.lowercased()
        for (task, format) in [(".jfr", "jfr"), (".folded", "folded"), (".lines", "lines"), (".json", "speedscope")]
        where name.hasSuffix(task) {
            return format
        }
        return "pprof"
    }
}

extension SendCommand.Options {
    fileprivate init(_ arguments: Arguments) throws(UsageError) {
        let destination = try Destination(arguments, for: "send")
        guard let name = arguments.value("--name") else { throw UsageError("send needs --name NAME, such as app{env=prod}") }
        var labels: LabelSet
        do throws(LabelSet.ParseError) {
            labels = try LabelSet(parsing: name)
        } catch { throw UsageError("--name: \(error)") }
        // On Push, `__name__` is the kind of profile; on /ingest, it is the application.
        if labels["service_name"] == nil { labels["service_name"] = labels[LabelSet.appName] }
        labels[LabelSet.appName] = "process_cpu"
        let now = MonotonicTime.unixNanoseconds
        self.init(
            destination: destination, name: name, labels: labels, isPush: arguments.has("--push"), format: arguments.value("--format"),
            from: arguments.value("--from") ?? String(now / 1_000_000_000 - 10),
            until: arguments.value("--until") ?? String(now / 1_000_000_000))
    }
}
