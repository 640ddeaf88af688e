/// The routes of the admin listener.
struct AdminEndpoint: Routes {
    /// Open to everybody, for whoever restarts the process has no password.
    static let openPath = "/-/healthy"

    let gateway: Gateway

    func admit(_ head: RequestHead) -> Admission {
        if head.equals(head.path, ReloadRequests.path) { return gateway.reloadRequests.admit(head) }
        guard head.equals(head.method, "GET") || head.equals(head.method, "HEAD") else {
            var response = Response.error(405, "use GET")
            response.headers.append(("Allow", "GET, HEAD"))
            return .refuse(response)
        }
        switch String(decoding: head[head.path], as: UTF8.self) {
        case Self.openPath: return .refuse(.text(200, "healthy\n"))
        case "/-/ready":
            return .refuse(gateway.isReady ? .text(200, "ready\n") : .error(503, "the gateway is starting or draining"))
        case "/metrics": return .refuse(.text(200, gateway.metricsPage, type: "text/plain; version=0.0.4; charset=utf-8"))
        case "/api/v1/status": return .refuse(.text(200, gateway.statusPage, type: "application/json"))
        case let path: return .refuse(.error(404, "no such path: \(quotedForPeople(path))"))
        }
    }
}
