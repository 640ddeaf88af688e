import HTTPServer
import Telemetry

/// The routes of a `receive_http` listener.
package struct IngestRoutes: Routes {
    let ingest: IngestEndpoint
    let push: PushEndpoint

    package init(ingest: IngestEndpoint, push: PushEndpoint) {
        (self.ingest, self.push) = (ingest, push)
    }

    func admit(_ head: RequestHead) -> Admission {
        if head.equals(head.path, PushEndpoint.path) { return push.admit(head) }
        guard head.equals(head.path, "/ingest") || head.equals(head.path, "/pyroscope/ingest") else {
            return .refuse(.error(404, "no such path: \(quotedForPeople(String(decoding: head[head.path], as: UTF8.self)))"))
        }
        guard head.equals(head.method, "POST") else {
            return .refuse(.wrongMethod(use: "POST", "use POST"))
        }
        return ingest.admit(head)
    }
}
