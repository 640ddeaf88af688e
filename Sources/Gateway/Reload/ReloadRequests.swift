import ConfigJSON
import Glibc
import LinuxSystem
import Synchronization

/// Those who asked for a reload over HTTP and wait for what comes of it.
final class ReloadRequests: Sendable {
    static let path = "/-/reload"
    /// A reload takes no body; one that a client sends all the same is read past.
    private static let bodyLimit = 4096

    /// Who waits; nil once no reload will come.
    private let waiting = Mutex<[Reply]?>([])

    func admit(_ head: RequestHead) -> Admission {
        guard head.equals(head.method, "POST") else {
            var response = Response.error(405, "use POST")
            response.headers.append(("Allow", "POST"))
            return .refuse(response)
        }
        return .receive(
            Reception(
                limit: Self.bodyLimit, tooLarge: { _ in .error(413, "a reload takes no body") },
                failure: { status, _ in .error(status, "the reload takes long; /api/v1/status will tell what came of it") },
                answer: { _, reply in self.add(reply) }))
    }

    /// Has the main thread reload: a signal is what it waits for.
    private func add(_ reply: Reply) -> Response? {
        let isTaken = waiting.withLock { waiting in
            waiting?.append(reply)
            return waiting != nil
        }
        guard isTaken else { return Self.shuttingDown }
        kill(getpid(), SIGHUP)
        return nil
    }

    /// The body that says that a reload has succeeded.
    static let done = Array("reloaded\n".utf8)

    /// What those are told who asked.
    static func answer(to status: ReloadStatus) -> Response {
        status.isSuccessful ? .text(200, String(decoding: done, as: UTF8.self)) : refusal(status.problems)
    }

    /// Answers what is left; no reload will come.
    func stop() {
        let left = waiting.withLock { $0.take() } ?? []
        for reply in left { reply.send(Self.shuttingDown) }
    }

    /// Takes those who have asked until now.
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
