import HTTPServer
import Telemetry

/// The routes of a `receive_http` listener.
package struct IngestRoutes: Routes {
    let ingest: IngestEndpoint
    let push: PushEndpoint
    /// The prefix of every path but those of health, `/pyroscope` for example; empty for none.
    let prefix: String
    /// Whether requests may be sent here; nil answers nobody who asks for health.
    let isReady: (@Sendable () -> Bool)?

    package init(ingest: IngestEndpoint, push: PushEndpoint, below prefix: String = "", isReady: (@Sendable () -> Bool)? = nil) {
        (self.ingest, self.push, self.prefix, self.isReady) = (ingest, push, prefix, isReady)
    }

    private static let ingestPath = "/ingest"
    private static let otherIngestPath = "/pyroscope/ingest"
    private static let healthyPath = "/-/healthy"
    /// The second is Pyroscope's.
    private static let readyPaths = ["/-/ready", "/ready"]

    func admit(_ head: RequestHead) -> Admission {
        if head.leads(to: PushEndpoint.path, below: prefix) { return push.admit(head) }
        if head.leads(to: Self.ingestPath, below: prefix) { return admitIngest(head, Self.ingestPath) }
        if head.leads(to: Self.otherIngestPath, below: prefix) { return admitIngest(head, Self.otherIngestPath) }
        guard let health = health(head) else {
            return .refuse(.error(404, "no such path: \(quotedForPeople(String(decoding: head[head.path], as: UTF8.self)))"))
        }
        return .refuse(isReading(head) ? health : .wrongMethod(use: "GET, HEAD", "use GET"))
    }

    /// - Parameter path: the path as it is written usually, which is that of the profile however the sender wrote it.
    private func admitIngest(_ head: RequestHead, _ path: String) -> Admission {
        guard head.equals(head.method, "POST") else {
            return .refuse(.wrongMethod(use: "POST", "use POST"))
        }
        return ingest.admit(head, path: path)
    }

    // MARK: Health

    func isOpen(_ head: RequestHead) -> Bool { isReading(head) && health(head) != nil }

    private func isReading(_ head: RequestHead) -> Bool { head.equals(head.method, "GET") || head.equals(head.method, "HEAD") }

    /// The answer to a request for health; nil when it is for something else.
    private func health(_ head: RequestHead) -> Response? {
        guard let isReady else { return nil }
        if leads(head, to: Self.healthyPath) { return .healthy }
        return Self.readyPaths.contains { leads(head, to: $0) } ? .readiness(isReady()) : nil
    }

    /// Whether a request is for a path, below the prefix or not: who watches a process may not know its prefix.
    private func leads(_ head: RequestHead, to path: String) -> Bool {
        head.leads(to: path) || !prefix.isEmpty && head.leads(to: path, below: prefix)
    }
}
