import ConfigJSON
import Glibc
import HTTPServer
import LinuxSystem
import Synchronization

/// The HTTP requests for a reload that wait for its result.
final class ReloadRequests: Sendable {
    static let path = "/-/reload"
    /// A reload has no body; a small one that a client sends anyway is read and ignored.
    private static let bodyLimit = 4096

    /// The waiting replies; nil once no reload will run.
    private let waiting = Mutex<[Reply]?>([])

    func admit(_ head: RequestHead) -> Admission {
        guard head.equals(head.method, "POST") else {
            return .refuse(.wrongMethod(use: "POST", "use POST"))
        }
        return .receive(Request(self))
    }

    /// One request for a reload.
    private final class Request: RequestHandler {
        let bodyLimit = ReloadRequests.bodyLimit
        private let requests: ReloadRequests

        init(_ requests: ReloadRequests) { self.requests = requests }

        func tooLarge(_ size: Int?) -> Response { .error(413, "a reload takes no body") }
        func answer(_ body: consuming ByteBuffer, _ reply: Reply) { requests.add(reply) }

        func giveUp(_ reason: GiveUpReason) -> Response? {
            reason == .timeout ? .error(504, "the reload takes long; /api/v1/status will tell what came of it") : nil
        }
    }

    /// Makes the main thread start a reload, by a signal, because it waits for signals only.
    private func add(_ reply: Reply) {
        let isTaken = waiting.withLock { waiting in
            waiting?.append(reply)
            return waiting != nil
        }
        if isTaken { kill(getpid(), SIGHUP) } else { reply.send(Self.shuttingDown) }
    }

    /// The response body after a successful reload.
    static let done = Array("reloaded\n".utf8)

    /// The response for those who requested the reload.
    static func answer(to status: ReloadStatus) -> Response {
        status.isSuccessful ? .text(200, String(decoding: done, as: UTF8.self)) : refusal(status.problems)
    }

    /// Answers the waiting requests; no reload will run after this.
    func stop() {
        let left = waiting.withLock { $0.take() } ?? []
        for reply in left { reply.send(Self.shuttingDown) }
    }

    /// Removes and returns the replies of the requests so far.
    func take() -> [Reply] {
        waiting.withLock { waiting in
            defer { if waiting != nil { waiting = [] } }
            return waiting ?? []
        }
    }

    static let shuttingDown = Response.error(503, "the gateway is shutting down")

    private static func refusal(_ problems: [String]) -> Response {
        var response = Response.error(400, "")
        let list = problems.map(JSONValue.quoted).joined(separator: ",")
        response.body = Array(
            "{\"code\":\"invalid_argument\",\"message\":\"the config has problems; nothing was changed\",\"problems\":[\(list)]}".utf8)
        return response
    }
}
