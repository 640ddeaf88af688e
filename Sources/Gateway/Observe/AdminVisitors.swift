import ConfigJSON
import HTTPServer
import LinuxSystem
import Telemetry

/// Keeps web pages from using the admin listener through the browser of a person who can reach it.
///
/// A page of another site can send requests here, and the browser names that site in `Origin`. A page whose own host name was
/// made to resolve to this address (DNS rebinding) is of the same site to the browser, but that name is in `Host`.
struct AdminVisitors {
    /// The names by which the listener may be addressed, in lower case, beside IP addresses and `localhost`.
    let hosts: [String]

    /// Paths that reveal nothing worth stealing, and that load balancers and Prometheus request under any host name.
    private static let openPaths = [AdminEndpoint.openPath, AdminEndpoint.readyPath, AdminEndpoint.metricsPath]

    /// Why a request is refused; nil when it is served.
    func objection(to head: RequestHead) -> String? {
        let host = head.value(of: "host").map { String(decoding: $0, as: UTF8.self).lowercased() }
        for origin in head.values(of: "origin") where !isOwn(String(decoding: origin, as: UTF8.self).lowercased(), host) {
            return "the request was made by a page of another site"
        }
        // A link may be followed from any site; a request that changes something may not come from another site.
        let isReading = head.equals(head.method, "GET") || head.equals(head.method, "HEAD")
        let site = head.value(of: "sec-fetch-site").map { String(decoding: $0, as: UTF8.self).lowercased() }
        if !isReading, let site, !["same-origin", "none"].contains(site) { return "the request was made by a page of another site" }
        if Self.openPaths.contains(where: { head.equals(head.path, $0) }) { return nil }
        // A request without Host is HTTP/1.0, which no browser speaks.
        guard let host, !isKnown(Self.name(in: host)) else { return nil }
        return "Host is \(quotedForPeople(host)), and admin is asked by an IP address, localhost, or one of admin.hosts"
    }

    /// Whether an `Origin` is this listener's. RFC 6454 section 7: scheme, host and port of the page, or `null` when it has none.
    private func isOwn(_ origin: String, _ host: String?) -> Bool {
        guard let host else { return false }
        return [("http://", ":80"), ("https://", ":443")].contains { scheme, port in
            // The scheme's default port may be left out of either.
            origin == scheme + host || origin + port == scheme + host || origin == scheme + host + port
        }
    }

    private func isKnown(_ name: String) -> Bool { name == "localhost" || hosts.contains(name) || HostAddress.isNumeric(name) }

    /// A host without its port, and without the final dot of a complete name or the brackets of an IPv6 address.
    private static func name(in host: String) -> String {
        if host.hasPrefix("[") { return String(host.dropFirst().prefix { $0 != "]" }) }
        let name = host.prefix { $0 != ":" }
        return String(name.hasSuffix(".") ? name.dropLast() : name)
    }
}
