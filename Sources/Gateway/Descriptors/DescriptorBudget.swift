import HTTPServer
import Receivers

/// Divides the process's file descriptors among their uses, so that no use takes what another one needs.
///
/// A plain calculation: the gateway's own reserve and the admin listener's share are subtracted from the limit; the connections
/// of senders and the receivers' plugins divide the rest.
struct DescriptorBudget: Equatable, Sendable {
    /// The numbers of a config that decide the division.
    struct Demand: Equatable, Sendable {
        /// The event loops that serve senders.
        var loops = 1
        /// Listening sockets, the admin listener's included.
        var sockets = 1
        var receivers = 0
        var hasDataDirectory = false
        /// The sum of all `conn_limit`; `Int.max` when a listener has none.
        var connections = 0
        /// The sum of all `max_in_flight`.
        var deliveries = 0
    }

    /// The process's limit of open descriptors.
    let limit: Int
    /// The gateway's own use: files, certificates, the spool, dead letters, listening sockets, and the like.
    let reserve: Int
    /// Connections to the admin listener.
    let admin: Int
    /// Connections to all other listeners together.
    let listeners: Int
    /// Descriptors that the instances of all plugins may hold together.
    let receivers: Int
    /// The most files of dead letters that may be open at a time.
    let deadLetterFiles: Int
    /// A limit that is large enough for all that the config asks for.
    let enough: Int

    /// Divides `limit` by the demand of a config.
    init(limit: Int, _ demand: Demand) {
        self.limit = limit
        deadLetterFiles = (limit / 32).held(to: 2...Self.mostDeadLetterFiles)
        reserve = Self.reserve(demand, deadLetterFiles)
        admin = (limit / 32).held(to: Self.leastAdmin...Self.mostAdmin)
        let rest = max(0, limit - reserve - admin)
        let least = max(1, demand.receivers)
        let deliveries = demand.deliveries.times(Self.perDelivery).plus(demand.receivers.times(Self.perReceiver))
        // The part for refusals is added, so that the connections asked for are left without it.
        let connections = demand.connections.plus((demand.connections / 15 + 1).held(to: 64...Self.mostRefusals))
        // Each side may take what the other one leaves.
        let sought = min(max(rest / 2, rest - min(rest, connections)), deliveries)
        listeners = max(Self.leastListeners, min(rest - min(rest, sought), connections))
        receivers = max(least, rest - min(rest, listeners))
        enough = Self.reserve(demand, Self.mostDeadLetterFiles).plus(Self.mostAdmin).plus(deliveries).plus(connections)
    }

    private static let mostDeadLetterFiles = 32
    private static let leastAdmin = 4
    private static let mostAdmin = 64
    private static let leastListeners = 8
    /// A delivery may have a connection to each of several endpoints, and some idle connections are worth keeping.
    private static let perDelivery = 4
    private static let perReceiver = 8

    private static func reserve(_ demand: Demand, _ deadLetterFiles: Int) -> Int {
        // Standard streams, the config, plugins while they are loaded, certificates and lists of users, reading /proc for the
        // pages, the log, and some to spare.
        let process = 16
        // Each loop has an epoll and an eventfd; the admin listener has a loop of its own.
        let loops = (demand.loops + 1) * 2
        // A reload opens new sockets before it closes old ones.
        let sockets = demand.sockets.times(2)
        // The lock, the current segment, the next one and one that is closed, removed ones, copies, notes, folders that are synced,
        // and the journal of accepted requests.
        let disk = demand.hasDataDirectory ? 16 + deadLetterFiles + 4 : 0
        // Reading the spool, and what the plugin needs beside connections: an epoll, an eventfd, a resolver.
        let receivers = demand.receivers.times(6)
        return [process, loops, sockets, disk, receivers].reduce(0) { $0.plus($1) }
    }

    // MARK: Connections answered 503

    private static let mostRefusals = 1024

    /// The part of the listeners' share that is kept for connections that are answered 503.
    var refusals: Int { (listeners / 16).held(to: 1...Self.mostRefusals) }
    /// The most connections of senders that can be served at a time.
    var heldConnections: Int { listeners - refusals }

    // MARK: Shortcomings

    /// True when the minimum of all uses together is more than the limit.
    var isOvercommitted: Bool { reserve.plus(admin).plus(listeners).plus(receivers) > limit }

    /// A demand that the limit is too small for.
    struct Shortcoming: Equatable, Sendable {
        /// A sentence for the log.
        let text: String
        /// The number asked for, and the number possible.
        let asked: Int
        let possible: Int
    }

    /// The demands that the limit is too small for; empty when it is large enough.
    func shortcomings(_ demand: Demand) -> [Shortcoming] {
        var found: [Shortcoming] = []
        if isOvercommitted {
            let least = reserve.plus(admin).plus(listeners).plus(receivers)
            found.append(Shortcoming(text: "there are fewer descriptors than the gateway itself needs", asked: least, possible: limit))
        }
        // A listener without `conn_limit` promises no number of connections.
        if demand.connections != .max, demand.connections > heldConnections {
            found.append(
                Shortcoming(text: "conn_limit cannot be held: too few descriptors", asked: demand.connections, possible: heldConnections))
        }
        if demand.deliveries > receivers {
            found.append(
                Shortcoming(text: "max_in_flight may have to wait: too few descriptors", asked: demand.deliveries, possible: receivers))
        }
        return found
    }
}

extension Int {
    /// The sum, or `Int.max` when it overflows; both are 0 or more.
    fileprivate func plus(_ other: Int) -> Int {
        let (sum, overflow) = addingReportingOverflow(other)
        return overflow ? .max : sum
    }

    /// The product, or `Int.max` when it overflows; both are 0 or more.
    fileprivate func times(_ other: Int) -> Int {
        let (product, overflow) = multipliedReportingOverflow(by: other)
        return overflow ? .max : product
    }

    fileprivate func held(to range: ClosedRange<Int>) -> Int { Swift.min(Swift.max(self, range.lowerBound), range.upperBound) }
}

extension DescriptorBudget.Demand {
    /// Reads the demand of a config.
    init(_ config: Config, loops: Int) {
        self.loops = loops
        sockets = config.listeners.count + (config.admin == nil ? 0 : 1)
        receivers = config.receivers.count
        hasDataDirectory = config.dataDirectory != nil
        connections = config.listeners.reduce(0) { $0.plus($1.http.connLimit == 0 ? .max : $1.http.connLimit) }
        deliveries = config.receivers.reduce(0) { $0.plus($1.maxInFlight) }
    }
}
