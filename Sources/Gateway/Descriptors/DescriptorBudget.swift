/// How the process's file descriptors are divided, so that no use of them takes what another one needs.
///
/// A plain calculation: the limit less a reserve that the gateway itself needs, less the admin listener's share, is what the
/// connections of senders and the receivers' plugins divide among them.
struct DescriptorBudget: Equatable, Sendable {
    /// What a config asks for.
    struct Demand: Equatable, Sendable {
        /// The event loops that serve senders.
        var loops = 1
        /// Listening sockets, the admin listener's included.
        var sockets = 1
        var receivers = 0
        var hasDataDirectory = false
        /// The connections that all `conn_limit` allow together.
        var connections = 0
        /// The deliveries that all `max_in_flight` allow together.
        var deliveries = 0
    }

    /// The process's limit of open descriptors.
    let limit: Int
    /// Files, certificates, the spool, dead letters, listening sockets, and whatever else is the gateway's own.
    let reserve: Int
    /// Connections to the admin listener.
    let admin: Int
    /// Connections to all other listeners together.
    let listeners: Int
    /// What the instances of all plugins may hold together.
    let receivers: Int
    /// How many files of dead letters may be open at a time.
    let deadLetterFiles: Int
    /// A limit with which nothing is bounded further than the config does.
    let enough: Int

    /// Divides `limit` by what a config asks for.
    init(limit: Int, _ demand: Demand) {
        self.limit = limit
        deadLetterFiles = (limit / 32).held(to: 2...Self.mostDeadLetterFiles)
        reserve = Self.reserve(demand, deadLetterFiles)
        admin = (limit / 32).held(to: Self.leastAdmin...Self.mostAdmin)
        let rest = max(0, limit - reserve - admin)
        let least = max(1, demand.receivers)
        let deliveries = demand.deliveries.times(Self.perDelivery).plus(demand.receivers.times(Self.perReceiver))
        // So that what is left without the refusals is what was asked for.
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
    /// A delivery may have a connection to each of several endpoints, and some that are idle are worth keeping.
    private static let perDelivery = 4
    private static let perReceiver = 8

    private static func reserve(_ demand: Demand, _ deadLetterFiles: Int) -> Int {
        // Standard streams, the config, plugins that are loaded, certificates and lists of users, the pages' look at /proc,
        // the log, and some to spare.
        let process = 16
        // Each loop has an epoll and an eventfd; the admin listener has a loop of its own.
        let loops = (demand.loops + 1) * 2
        // A reload opens new sockets before it closes old ones.
        let sockets = demand.sockets.times(2)
        // The lock, the segment that is written and the one after it, copies, notes, folders that are synced, and the
        // journal of accepted requests.
        let disk = demand.hasDataDirectory ? 16 + deadLetterFiles + 4 : 0
        // Its reading of the spool, and what its plugin needs beside connections: an epoll, an eventfd, a resolver.
        let receivers = demand.receivers.times(6)
        return [process, loops, sockets, disk, receivers].reduce(0) { $0.plus($1) }
    }

    // MARK: Connections that are told to come again

    private static let mostRefusals = 1024

    /// Of the listeners' share, those that are kept for connections which are answered 503.
    var refusals: Int { (listeners / 16).held(to: 1...Self.mostRefusals) }
    /// How many connections of senders can be held.
    var heldConnections: Int { listeners - refusals }

    // MARK: What is too small

    /// True when even the least that each use needs is more than there is.
    var isOvercommitted: Bool { reserve.plus(admin).plus(listeners).plus(receivers) > limit }

    /// Something that the limit is too small for.
    struct Shortcoming: Equatable, Sendable {
        /// A sentence.
        let text: String
        /// How many are asked for, and how many there can be.
        let asked: Int
        let possible: Int
    }

    /// What the limit is too small for; nothing when it is large enough.
    func shortcomings(_ demand: Demand) -> [Shortcoming] {
        var found: [Shortcoming] = []
        if isOvercommitted {
            let least = reserve.plus(admin).plus(listeners).plus(receivers)
            found.append(Shortcoming(text: "there are fewer descriptors than the gateway itself needs", asked: least, possible: limit))
        }
        // Without a limit nothing is promised.
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
    /// The sum, or the largest number where that is too much; both are 0 or more.
    fileprivate func plus(_ other: Int) -> Int {
        let (sum, overflow) = addingReportingOverflow(other)
        return overflow ? .max : sum
    }

    /// The product, or the largest number where that is too much; both are 0 or more.
    fileprivate func times(_ other: Int) -> Int {
        let (product, overflow) = multipliedReportingOverflow(by: other)
        return overflow ? .max : product
    }

    fileprivate func held(to range: ClosedRange<Int>) -> Int { Swift.min(Swift.max(self, range.lowerBound), range.upperBound) }
}

extension DescriptorBudget.Demand {
    /// What a config asks for.
    init(_ config: Config, loops: Int) {
        self.loops = loops
        sockets = config.listeners.count + (config.admin == nil ? 0 : 1)
        receivers = config.receivers.count
        hasDataDirectory = config.dataDirectory != nil
        connections = config.listeners.reduce(0) { $0.plus($1.http.connLimit == 0 ? .max : $1.http.connLimit) }
        deliveries = config.receivers.reduce(0) { $0.plus($1.maxInFlight) }
    }
}
