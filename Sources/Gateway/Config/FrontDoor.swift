import ConfigJSON
import HTTPServer
import LinuxSystem

/// Reading of the options for what stands before a listener: proxies, and the path below which they pass requests on.
extension ConfigObject {
    /// A path that stands before all others: empty, or with a slash at the beginning and none at the end.
    func pathPrefix(_ name: String) -> String {
        guard let text = string(name) else { return "" }
        if let objection = Self.objection(toPrefix: text) {
            refuse(name, "\(objection), is \(JSONValue.quoted(text))")
            return ""
        }
        return text.hasSuffix("/") ? String(text.dropLast()) : text
    }

    private static func objection(toPrefix text: String) -> String? {
        guard text.hasPrefix("/") else { return "must begin with a slash" }
        if text.utf8.contains(UInt8(ascii: "%")) { return "must not have percent-encodings, which are compared with nothing" }
        let others = "/-._~!$&'()*+,;=:@".utf8
        guard text.utf8.allSatisfy({ 48...57 ~= $0 || 65...90 ~= $0 & 0xDF || others.contains($0) }) else {
            return "must have only characters that a path may have"
        }
        let segments = text.dropFirst().split(separator: "/", omittingEmptySubsequences: false)
        if segments.contains(".") || segments.contains("..") { return "must not have the segments . and .." }
        return segments.dropLast().contains("") ? "must not have an empty segment" : nil
    }

    /// The addresses whose word about senders is believed.
    func addressRanges(_ name: String) -> AddressRanges {
        var ranges = AddressRanges()
        for text in strings(name) ?? [] {
            if let objection = ranges.add(text) { refuse(name, "\(JSONValue.quoted(text)) \(objection)") }
        }
        return ranges
    }
}

extension HTTPConfig {
    /// Reads where to listen.
    mutating func readAddress(_ object: ConfigObject) {
        address = object.listenAddress("listen_address", default: address)
        guard socketPath != nil else {
            port = object.port("listen_port", default: port)
            if object.value("socket_mode") != nil { object.refuse("socket_mode", "goes with the listen_address of a Unix socket") }
            return
        }
        port = 0
        if object.value("listen_port") != nil { object.refuse("listen_port", "means nothing beside a Unix socket") }
        guard let text = object.string("socket_mode") else { return }
        guard 3...4 ~= text.utf8.count, text.utf8.allSatisfy({ 48...55 ~= $0 }), let mode = UInt32(text, radix: 8), mode <= 0o777 else {
            return object.refuse("socket_mode", "must be an octal number such as \"0660\", at most \"0777\", is \(JSONValue.quoted(text))")
        }
        socketMode = mode
        if mode & 0o222 == 0 { object.refuse("socket_mode", "lets nobody connect: \(JSONValue.quoted(text))") }
        if mode & 0o002 != 0 { object.warn("socket_mode", "lets everybody on this machine connect: \(JSONValue.quoted(text))") }
    }

    /// Reads what concerns proxies in front of the listener.
    mutating func readProxies(_ object: ConfigObject) {
        trustedProxies = object.addressRanges("trusted_proxies")
        proxyProtocol = object.bool("proxy_protocol", default: proxyProtocol)
        if proxyProtocol, object.strings("trusted_proxies") ?? [] == [] {
            object.refuse("proxy_protocol", "needs trusted_proxies: connections of all other addresses are closed")
        }
    }
}
