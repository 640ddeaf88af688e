import HTTPServer
import Telemetry

/// The routes of the admin listener.
struct AdminEndpoint: Routes {
    /// Open without credentials, because the supervisor that restarts the process has none.
    static let openPath = "/-/healthy"
    static let readyPath = "/-/ready"
    static let metricsPath = "/metrics"
    static let statusPath = "/api/v1/status"
    static let eventsPath = "/api/v1/events"

    let gateway: RunningGateway
    let visitors: AdminVisitors

    func isOpen(_ head: RequestHead) -> Bool { head.equals(head.path, Self.openPath) }

    func admit(_ head: RequestHead) -> Admission {
        if let objection = visitors.objection(to: head) { return .refuse(.error(403, objection)) }
        if head.equals(head.path, ReloadRequests.path) { return gateway.reloadRequests.admit(head) }
        guard head.equals(head.method, "GET") || head.equals(head.method, "HEAD") else {
            return .refuse(.wrongMethod(use: "GET, HEAD", "use GET"))
        }
        switch String(decoding: head[head.path], as: UTF8.self) {
        case Self.openPath: return .refuse(.healthy)
        case Self.readyPath: return .refuse(.readiness(gateway.isReady))
        case Self.metricsPath: return .refuse(.text(200, gateway.metricsPage, type: "text/plain; version=0.0.4; charset=utf-8"))
        case Self.statusPath: return .refuse(.text(200, gateway.statusPage, type: "application/json"))
        case PageFrame.pagePath:
            return .refuse(gateway.page.answer(gateway, filter: QueryString(head[head.query]).text("filter") ?? ""))
        case Self.eventsPath:
            // The answer to a HEAD ends with its head.
            return .refuse(head.equals(head.method, "HEAD") ? LiveEvents.head : gateway.page.live.answer())
        case let path where path.hasPrefix(ProfilePage.path):
            return gateway.profileRequests.admit(
                path.dropFirst(ProfilePage.path.count), QueryString(head[head.query]), gateway.parts.recent)
        case let path where path.hasPrefix(PageFrame.assets):
            return .refuse(PageAssets.answer(path.dropFirst(PageFrame.assets.count)) ?? .error(404, "no such file of the page"))
        case let path: return .refuse(.error(404, "no such path: \(quotedForPeople(path))"))
        }
    }
}
