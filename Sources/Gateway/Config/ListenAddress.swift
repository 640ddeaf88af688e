import ConfigJSON
import HTTPServer
import LinuxSystem

/// Checks of `listen_address`.
enum ListenAddress {
    /// Why nothing can ever listen at an address; nil when something can, or might: a name may be known elsewhere or later, and
    /// an address may be another machine's.
    static func objection(to address: String) -> String? {
        if address.isEmpty || HostAddress.isNumeric(address) { return nil }
        if address == "*" { return "is \"*\"; an empty text is all interfaces" }
        let isUnix = address.hasPrefix(HTTPConfig.unixScheme)
        if !isUnix, address.unicodeScalars.contains(where: { $0.properties.isWhitespace || $0.value < 0x20 }) { return "holds white space" }
        if address.contains("://") { return "is a URL; the host alone is meant" }
        if address.hasPrefix(HTTPConfig.unixScheme) { return objection(toPath: address.dropFirst(HTTPConfig.unixScheme.count)) }
        if address.hasPrefix("@") || address.contains("/") { return "names a Unix socket, which is written as \"unix:/path\"" }
        if address.contains("[") || address.contains("]") {
            return "has brackets; an IPv6 address stands without them, and its port in listen_port"
        }
        if let colon = address.firstIndex(of: ":") {
            let isPort = address[colon...].dropFirst().utf8.allSatisfy { 48...57 ~= $0 }
            return isPort ? "has a port, which stands in listen_port" : "is no IPv6 address"
        }
        return isHostName(address) ? nil : "is neither an IP address nor the name of a host"
    }

    private static func objection(toPath path: Substring) -> String? {
        if path.isEmpty || path.hasSuffix("/") { return "names no file for the Unix socket" }
        if path.hasPrefix("@") { return "is an abstract Unix socket, which has no permissions; a path is meant" }
        if path.utf8.contains(where: { $0 < 0x20 || $0 == 0x7F }) { return "has a control character in the path of the Unix socket" }
        let length = String(path).absolutePath.utf8.count
        return length <= SocketAddress.longestPath
            ? nil : "has a path of \(length) bytes, and that of a Unix socket has at most \(SocketAddress.longestPath)"
    }

    /// Whether a text is a host name by RFC 1123 §2.1; underscores are accepted too, because some names have them.
    static func isHostName(_ text: String) -> Bool {
        let labels = (text.hasSuffix(".") ? text.dropLast() : text[...]).split(separator: ".", omittingEmptySubsequences: false)
        let areLabels = labels.allSatisfy { label in
            1...63 ~= label.utf8.count && label.first != "-" && label.last != "-"
                && label.utf8.allSatisfy { (48...57 ~= $0) || (65...90 ~= $0 & 0xDF) || $0 == 45 || $0 == 95 }
        }
        // A text that ends in a number is an address or invalid.
        return areLabels && text.utf8.count <= 254 && labels.last?.utf8.allSatisfy { 48...57 ~= $0 } == false
    }

    /// Whether two addresses can never be used with the same port at the same time.
    static func overlap(_ a: String, _ b: String) -> Bool {
        if [a, b].contains(where: { $0.hasPrefix(HTTPConfig.unixScheme) }) { return a == b }
        let (a, b) = (a.lowercased(), b.lowercased())
        if a == b || ["", "::"].contains(a) || ["", "::"].contains(b) { return true }
        return [(a, b), (b, a)].contains { $0 == "0.0.0.0" && !$1.contains(":") && HostAddress.isNumeric($1) }
    }
}

extension ConfigObject {
    func listenAddress(_ name: String, default fallback: String) -> String {
        guard let address = string(name) else { return fallback }
        if let objection = ListenAddress.objection(to: address) { refuse(name, objection) }
        return address
    }
}

extension HTTPConfig {
    /// Warns of credentials that are sent over the network unencrypted.
    func warnOfClearCredentials(_ object: ConfigObject) {
        guard let auth, tls == nil, auth.users != nil || auth.tokens != nil, socketPath == nil, !HostAddress.isLoopback(address)
        else { return }
        object.warn("auth", "is given without tls, so passwords and tokens travel in the clear")
    }
}

extension Config {
    /// Refuses listeners of one config that use the same port of the same address.
    func checkAddresses(_ listenerMembers: [JSONMember], _ object: ConfigObject) {
        var taken: [(path: String, http: HTTPConfig)] = admin.map { [("admin", $0.http)] } ?? []
        for (member, listener) in zip(listenerMembers, listeners) where listener.http.port != 0 || listener.http.socketPath != nil {
            let path = Problems.path("receive_http", member.name)
            let other = taken.first { $0.http.port == listener.http.port && ListenAddress.overlap($0.http.address, listener.http.address) }
            let place = listener.http.socketPath.map { "the socket \(JSONValue.quoted($0))" } ?? "port \(listener.http.port)"
            if let other { object.problems.add(path, "wants \(place), as \(other.path) does", at: member.position) }
            taken.append((path, listener.http))
        }
    }
}
