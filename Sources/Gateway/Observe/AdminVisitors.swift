import ConfigJSON
import LinuxSystem

/// Keeps web pages from using the admin listener through the browser of somebody who can reach it.
///
/// A page of another site may send requests here, and says in `Origin` where it is from. One whose own name was made to lead here
/// (DNS rebinding) is of the same site to the browser, but its name is in `Host`.
struct AdminVisitors {
    /// The names by which the listener may be asked, in lower case, beside IP addresses and `localhost`.
    let hosts: [String]

    /// Paths that tell nothing worth stealing, and that load balancers and Prometheus ask for by any name.
    private static let openPaths = [AdminEndpoint.openPath, AdminEndpoint.readyPath, AdminEndpoint.metricsPath]

    /// Why a request is not served; nil when it is.
    func objection(to head: RequestHead) -> String? {
        let host = head.value(of: "host").map { String(decoding: $0, as: UTF8.self).lowercased() }
        for origin in head.values(of: "origin") where !isOwn(String(decoding: origin, as: UTF8.self).lowercased(), host) {
            return "the request was made by a page of another site"
        }
        // A link to a page is followed from anywhere; what changes something is not.
        let isReading = head.equals(head.method, "GET") || head.equals(head.method, "HEAD")
        let site = head.value(of: "sec-fetch-site").map { String(decoding: $0, as: UTF8.self).lowercased() }
        if !isReading, let site, !["same-origin", "none"].contains(site) { return "the request was made by a page of another site" }
        if Self.openPaths.contains(where: { head.equals(head.path, $0) }) { return nil }
        // Without one it is HTTP/1.0, which no browser speaks.
        guard let host, !isKnown(Self.name(in: host)) else { return nil }
        return "Host is \(quotedForPeople(host)), and admin is asked by an IP address, localhost, or one of admin.hosts"
    }

    /// RFC 6454 section 7: scheme, host and port of the page, or `null` where it has none.
    private func isOwn(_ origin: String, _ host: String?) -> Bool {
        guard let host else { return false }
        return [("http://", ":80"), ("https://", ":443")].contains { scheme, port in
            // The port that goes without saying may be left out of either.
            origin == scheme + host || origin + port == scheme + host || origin == scheme + host + port
        }
    }

    private func isKnown(_ name: String) -> Bool { name == "localhost" || hosts.contains(name) || HostAddress.isNumeric(name) }

    /// A host without its port, and without the dot that ends a whole name or the brackets of an IPv6 address.
    private static func name(in host: String) -> String {
        if host.hasPrefix("[") { return String(host.dropFirst().prefix { $0 != "]" }) }
        let name = host.prefix { $0 != ":" }
        return String(name.hasSuffix(".") ? name.dropLast() : name)
    }
}
