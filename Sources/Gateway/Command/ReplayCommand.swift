import ConfigJSON
import Glibc
import LinuxSystem
import ProfileArchive
import PushWire
import Telemetry

/// `gateway replay`: sends the profiles of an archive again, as they were received.
enum ReplayCommand {
    /// The options that apply to every profile of one run.
    private struct Options {
        let destination: Destination
        /// The open archive; files are read and removed in this folder, even if its path leads elsewhere by then.
        let archive: OpenFolder
        let removes: Bool
        let isJSON: Bool
    }

    /// The result of one file.
    private struct Outcome {
        /// The HTTP status; 0 without a response.
        var status = 0
        let line: String
        var isDone = false
    }

    static func run(_ words: [String]) throws(UsageError) -> Int32 {
        let arguments = try Arguments(words, options: Destination.options, flags: ["--remove", "--json"])
        guard arguments.words.count == 1 else { throw UsageError("replay needs one directory") }
        var directory = arguments.words[0]
        while directory.hasSuffix("/"), directory != "/" { directory.removeLast() }
        let destination = try Destination(arguments, for: "replay")
        do {
            let options = Options(
                destination: destination, archive: try Archive(directory).open(), removes: arguments.has("--remove"),
                isJSON: arguments.has("--json"))
            return replay(options, try HTTPClient())
        } catch {
            printError("gateway: \(error)")
            return 1
        }
    }

    private static func replay(_ options: Options, _ client: HTTPClient) -> Int32 {
        let plan = ReplayPlan(of: options.archive)
        var progress = ProgressLine(total: plan.profiles.count)
        var (sent, failures) = (0, 0)
        func tell(_ path: String, _ outcome: Outcome) {
            if outcome.isDone { sent += 1 } else { failures += 1 }
            progress.clear()
            print(line(path, outcome, options))
        }
        for profile in plan.profiles {
            tell(options.archive.path(of: profile.path), send(profile, options, client))
            progress.step(failures: failures)
        }
        for stray in plan.strays(options.archive) { tell(stray.path, Outcome(line: stray.reason)) }
        progress.clear()
        print(options.isJSON ? "{\"sent\":\(sent),\"failed\":\(failures)}" : "\(sent) sent, \(failures) failed")
        return failures == 0 ? 0 : 1
    }

    private static func line(_ path: String, _ outcome: Outcome, _ options: Options) -> String {
        guard options.isJSON else { return "\(printable(path)): \(outcome.line)" }
        return "{\"path\":\(JSONValue.quoted(path)),\"status\":\(outcome.status),\"message\":\(JSONValue.quoted(outcome.line))}"
    }

    private static func send(_ entry: ReplayPlan.Entry, _ options: Options, _ client: HTTPClient) -> Outcome {
        do {
            // The files are removed later from the same folder that they were read from.
            let folder = try options.archive.descend(entry.folder)
            let profile = try ArchivedProfile(entry.name, in: folder)
            let payloads = try Payloads(of: profile, in: folder)
            let answer = try payloads.send(profile, to: options.destination, by: client)
            let (line, isDelivered) = options.destination.told(answer, isPush: profile.isPush)
            if isDelivered, options.removes { try remove(profile, entry, from: folder, options.archive) }
            return Outcome(status: answer.status, line: line, isDone: isDelivered)
        } catch { return Outcome(line: printable("\(error)")) }
    }

    /// Removes a sent profile; the metadata first, so that it is not sent again if this is interrupted.
    private static func remove(
        _ profile: ArchivedProfile, _ entry: ReplayPlan.Entry, from folder: OpenFolder, _ archive: OpenFolder
    ) throws(SystemError) {
        do throws(SystemError) {
            for file in [entry.name] + profile.payloads.map(\.file) { try folder.remove(file) }
            archive.removeEmpty(entry.folder)
        } catch { throw SystemError("answered 200, but \(error.operation)", code: error.code) }
    }

    /// The payloads of a profile in one buffer, so that all can be passed on at once.
    private struct Payloads {
        private var bytes: [UInt8] = []
        private var ranges: [(id: String, range: Range<Int>)] = []

        init(of profile: ArchivedProfile, in folder: OpenFolder) throws {
            for payload in profile.payloads {
                let start = bytes.count
                bytes += try profile.bytes(of: payload, in: folder)
                ranges.append((payload.id, start..<bytes.count))
            }
        }

        func send(_ profile: ArchivedProfile, to destination: Destination, by client: HTTPClient) throws -> HTTPClient.Answer {
            let headers = profile.requestHeaders
            guard profile.isPush else {
                return try unsafe destination.ingest(query: profile.query, headers, body: bytes.span.bytes, by: client)
            }
            return try unsafe bytes.withUnsafeBytes { all in
                let samples = ranges.map { unsafe PushMessage.Sample(id: $0.id, bytes: UnsafeRawBufferPointer(rebasing: all[$0.range])) }
                return try destination.push(labels: profile.labels, samples: samples, headers, by: client)
            }
        }
    }
}

extension ArchivedProfile {
    /// Headers about the transfer of one message, and not about its content.
    private static let ofTheMessage: Set<String> = [
        "accept-encoding", "connection", "content-encoding", "content-length", "expect", "host", "keep-alive", "te", "trailer",
        "transfer-encoding", "upgrade", "x-scope-orgid",
    ]

    /// The headers of the original request, without those that are made new for each message; for a Push, these include the
    /// codec's.
    fileprivate var requestHeaders: Destination.Headers {
        var result = headers.filter { header in
            let name = header.name.lowercased()
            if Self.ofTheMessage.contains(name) { return false }
            return !isPush || !(name == "content-type" || name.hasPrefix("connect-") || name.hasPrefix("grpc-"))
        }
        if !tenant.isEmpty { result.append((Destination.tenantHeader, tenant)) }
        if isPush { return result }
        if !contentEncoding.isEmpty { result.append(("Content-Encoding", contentEncoding)) }
        // An empty Content-Type keeps libcurl from sending the type of a web form.
        return [("Content-Type", contentType)] + result
    }
}
