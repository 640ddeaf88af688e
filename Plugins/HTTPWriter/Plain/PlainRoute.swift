import LinuxSystem
import PushWire

/// The way to an endpoint for the writer's own client, and what all heads of requests to it have in common; on the thread of the transfers
/// only.
final class PlainRoute {
    let names: PlainNames
    let sockets: SocketWatcher
    /// The endpoint's URL.
    let url: String
    /// Host and port for people.
    let place: String
    /// Whether addresses stay valid as long as the connections; otherwise for a minute.
    let keepsAddresses: Bool
    /// The address of this machine that connections come from; nil is what the system chooses.
    let source: SocketAddress?
    /// The method and the path of the endpoint's URL.
    private let start: [UInt8]
    /// The part of the head after the target: the version, and the headers that are the same for all requests.
    private let constant: [UInt8]

    /// - Returns: nil when only libcurl may go there.
    init?(_ config: EndpointConfig, _ sockets: SocketWatcher) {
        guard let (host, port) = config.plainPlace else { return nil }
        let path = config.connection.unixSocket
        self.sockets = sockets
        names = PlainNames(host, port, sockets, socket: path.flatMap(SocketAddress.init(path:)))
        (url, self.place) = (config.url, path.map { "unix:\($0)" } ?? "\(host) port \(port)")
        source = config.connection.sourceAddress
        keepsAddresses = config.maximumConnectionAge > .zero
        start = Array("POST \(config.path)".utf8)
        constant = Array(Self.headers(config, host: port == 80 ? host : "\(host):\(port)").utf8)
    }

    /// As libcurl has it: a header of the config replaces the client's own one, and is not sent when its value is empty.
    private static func headers(_ config: EndpointConfig, host: String) -> String {
        var text = " HTTP/1.1\r\n"
        func add(_ header: (name: String, value: String)) {
            if header.value.contains(where: { $0 != " " && $0 != "\t" }) { text += "\(header.name): \(header.value)\r\n" }
        }
        // The first Host counts, because a request has only one.
        add(config.headers.first { $0.name.lowercased() == "host" } ?? ("Host", host))
        for own in [("User-Agent", "profile-gateway/\(HTTPWriter.version)"), ("Accept", "*/*")]
        where !config.headers.contains(where: { $0.name.lowercased() == own.0.lowercased() }) { add(own) }
        for header in config.headers where header.name.lowercased() != "host" { add(header) }
        return text
    }

    /// Writes the head of a request over `head`.
    func write(_ request: borrowing LaneRequest, into head: inout [UInt8]) throws(WrittenHead.Refusal) {
        head.removeAll(keepingCapacity: true)
        head.append(contentsOf: start)
        try request.request.writeTarget(to: &head)
        head.append(contentsOf: constant)
        if let headers = request.headers {
            for header in headers { try head.append(header: header) }
        } else {
            try request.request.writeHeaders(to: &head)
        }
        for header in request.added { try head.append(header: header) }
        head.append(utf8: "Content-Length: ")
        head.append(decimal: unsafe request.body.count)
        head.append(utf8: "\r\n\r\n")
    }
}
