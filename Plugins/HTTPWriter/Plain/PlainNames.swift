import Glibc
import LinuxSystem
import Synchronization

/// Looks up the name of one endpoint, on a thread of its own because a lookup may block for long; otherwise on the thread of the transfers
/// only.
///
/// At most one lookup runs at a time, whoever waits for it: with a resolver that hangs there would else be as many threads as
/// requests.
final class PlainNames: SocketOwner {
    /// The addresses of a host that needs no lookup; nil for another one.
    let known: [SocketAddress]?
    let host: String
    private let port: UInt16
    private let sockets: SocketWatcher
    private var lookup: PlainLookup?

    /// - Parameters:
    ///   - host: the host of a URL; an IPv6 address stands in brackets there.
    ///   - socket: the Unix socket that is connected to instead.
    init(_ host: String, _ port: UInt16, _ sockets: SocketWatcher, socket: SocketAddress? = nil) {
        self.host = host.hasPrefix("[") ? String(host.dropFirst().dropLast()) : host
        (self.port, self.sockets) = (port, sockets)
        known = socket.map { [$0] } ?? Self.known(self.host.lowercased(), port)
    }

    /// A literal address, or those of this machine for the names that mean it (RFC 6761 §6.3), which no resolver has to know.
    private static func known(_ host: String, _ port: UInt16) -> [SocketAddress]? {
        if host == "localhost" || host.hasSuffix(".localhost") {
            return ["::1", "127.0.0.1"].compactMap { SocketAddress(literal: $0, port: port) }
        }
        return SocketAddress(literal: host, port: port).map { [$0] }
    }

    deinit { if let lookup { sockets.forget(lookup.descriptor) } }

    /// The lookup that runs, or a new one.
    func lookUp() throws(SystemError) -> PlainLookup {
        if let lookup { return lookup }
        let new = try PlainLookup()
        try new.run(host, port)
        guard sockets.watch(new.descriptor, .readable, of: self) else { throw SystemError("watch a lookup", code: ENOMEM) }
        lookup = new
        return new
    }

    /// Notes the end of the lookup; those who wait for it see its result in their next turn.
    func act(_ socket: Int32, _ ready: Poller.Interest) {
        sockets.forget(socket)
        lookup = nil
    }
}

/// One lookup of a name.
final class PlainLookup: Sendable {
    typealias Result = Swift.Result<[SocketAddress], SocketAddress.Unknown>

    private let found = Mutex<Result?>(nil)
    private let wakeup: Wakeup

    init() throws(SystemError) { wakeup = try Wakeup() }

    /// The descriptor that is readable once there is a result.
    var descriptor: Int32 { wakeup.descriptor }

    /// The result of the lookup; nil while it runs.
    var result: Result? { found.withLock { $0 } }

    func run(_ host: String, _ port: UInt16) throws(SystemError) {
        // Not joined: at the end of the writer nobody waits for a resolver that hangs.
        try Thread.detached("pyroscope.write") { [self] in
            let result = Swift.Result { () throws(SocketAddress.Unknown) in try SocketAddress.resolve(host, port: port, as: .server) }
            found.withLock { $0 = result }
            wakeup.signal()
        }
    }
}
