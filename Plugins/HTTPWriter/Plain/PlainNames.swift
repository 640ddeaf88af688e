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

/// The addresses to which one generation connects; on the thread of the transfers only.
final class PlainAddresses {
    /// How long addresses are used by new connections where connections have no age.
    private static let age = Duration.seconds(60)

    private let route: PlainRoute
    private var lookup: PlainLookup?
    /// Those found last, with the one first that worked.
    private var found: [SocketAddress]
    private var end = MonotonicTime.never

    init(_ route: PlainRoute) {
        self.route = route
        found = route.names.known ?? []
    }

    /// The addresses for a new connection; empty when they have to be looked up.
    func current(_ now: MonotonicTime) -> ArraySlice<SocketAddress> {
        if end <= now, route.names.known == nil { found = [] }
        return found[...]
    }

    /// Begins to look the name up, if that is not under way; ``takeResult(_:)`` returns the result later.
    func lookUp() throws(SystemError) { if lookup == nil { lookup = try route.names.lookUp() } }

    /// Returns the result of a lookup once, after it has ended.
    func takeResult(_ now: MonotonicTime) -> PlainLookup.Result? {
        guard let result = lookup?.result else { return nil }
        lookup = nil
        if case .success(let addresses) = result { (found, end) = (addresses, route.keepsAddresses ? .never : now + Self.age) }
        return result
    }

    /// Moves an address that works to the front, so that new connections try it first.
    func worked(_ address: SocketAddress) {
        if let place = found.firstIndex(of: address), place > 0 { found.insert(found.remove(at: place), at: 0) }
    }

    /// Waits for no lookup any more.
    func endLookup() { lookup = nil }
}
