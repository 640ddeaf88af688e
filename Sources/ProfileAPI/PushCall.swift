import HTTPServer
import LinuxSystem
import PluginABI
import Profiles
import Telemetry

/// A Push as its head announces it: the form of the message and of the answer, and the time limit of the answer.
final class PushCall: Sendable {
    let form: PushForm
    /// Whether the body as a whole is compressed; for gRPC-Web, whether frames may be compressed.
    let isCompressed: Bool
    /// Whether the answer may be compressed.
    let takesGzip: Bool
    let timeLimit: Duration?
    let content: ProfileContent
    let peer: PeerAddress

    /// The lanes in which it waits when it takes long. Compressed and plain messages take turns, because only a plain message's
    /// size tells how long decoding takes.
    var lanes: [String] { [isCompressed ? "compressed" : "plain", "\(peer)", content.tenant] }

    init(_ head: RequestHead, _ form: PushForm, _ intake: ProfileIntake) throws(PushFailure) {
        (self.form, peer) = (form, head.peer)
        isCompressed = try Self.isCompressed(head, form.isGRPCWeb ? "grpc-encoding" : "content-encoding")
        takesGzip = !form.isGRPCWeb && (isCompressed || Self.acceptsGzip(head))
        if form.isGRPCWeb {
            timeLimit = try head.value(of: "grpc-timeout").map { value throws(PushFailure) in try GRPCWeb.timeout(value) }
        } else {
            try Self.checkVersion(head)
            timeLimit = try head.value(of: "connect-timeout-ms").map { value throws(PushFailure) in try Self.timeout(value) }
        }
        do throws(InvalidRequest) {
            content = try intake.content(.push, head, path: PushEndpoint.path)
        } catch { throw PushFailure(error) }
    }

    private static func acceptsGzip(_ head: RequestHead) -> Bool {
        for value in head.values(of: "accept-encoding") {
            var start = value.startIndex
            while start <= value.endIndex {
                let end = value[start...].firstIndex(of: UInt8(ascii: ",")) ?? value.endIndex
                if value[start..<end].lazy.filter({ $0 != UInt8(ascii: " ") }).elementsEqual("gzip".utf8) { return true }
                start = end + 1
            }
        }
        return false
    }

    private static func isCompressed(_ head: RequestHead, _ name: String) throws(PushFailure) -> Bool {
        let encoding = head.value(of: name).map { String(decoding: $0, as: UTF8.self) } ?? ""
        guard ["", "identity", "gzip"].contains(encoding) else {
            let accept = name == "grpc-encoding" ? "Grpc-Accept-Encoding" : "Accept-Encoding"
            throw PushFailure(
                .unimplemented, "unknown compression \(quotedForPeople(encoding)): supported encodings are gzip",
                headers: [(accept, "gzip")])
        }
        return encoding == "gzip"
    }

    private static func checkVersion(_ head: RequestHead) throws(PushFailure) {
        let version = head.value(of: "connect-protocol-version").map { String(decoding: $0, as: UTF8.self) }
        guard version == nil || version == "1" else {
            throw PushFailure(.invalidArgument, "Connect-Protocol-Version must be \"1\": got \(quotedForPeople(version ?? ""))")
        }
    }

    /// Reads `Connect-Timeout-Ms`: at most ten digits.
    private static func timeout(_ value: ArraySlice<UInt8>) throws(PushFailure) -> Duration {
        guard value.count <= 10, let milliseconds = RequestParser.number(value) else {
            let text = quotedForPeople(String(decoding: value, as: UTF8.self))
            throw PushFailure(.invalidArgument, "Connect-Timeout-Ms must be at most ten digits: got \(text)")
        }
        return .milliseconds(milliseconds)
    }
}

/// Why a Push fails, as an error of the Connect protocol.
struct PushFailure: Error {
    let code: ConnectCode
    let message: String
    let headers: [(name: String, value: String)]

    init(_ code: ConnectCode, _ message: String, headers: [(name: String, value: String)] = []) {
        (self.code, self.message, self.headers) = (code, message, headers)
    }

    init(_ invalid: InvalidRequest) {
        self.init(ConnectCode(destinationStatus: invalid.status), invalid.message, headers: invalid.headers)
    }

    static func tooLarge(_ size: Int?, limit: Int) -> PushFailure {
        let what = size.map { "message size \($0) is" } ?? "message is"
        return PushFailure(.resourceExhausted, "\(what) larger than configured max \(limit)")
    }
}
