import CCurl
import Glibc
import LinuxSystem
import PluginKit

/// The object that is called when its socket is ready; on the thread of the transfers only.
protocol SocketOwner: AnyObject {
    func act(_ socket: Int32, _ ready: Poller.Interest)
}

/// Tells when sockets are ready, by ``SocketWatch/isReady(for:)``; on the thread of the transfers only.
protocol SocketEvents: AnyObject {
    /// Begins to look at a socket.
    func begin(_ watch: SocketWatch) throws(SystemError)
    /// Takes over what the watch waits for now.
    func change(_ watch: SocketWatch) throws(SystemError)
    /// Ends that, before the socket is closed.
    func end(_ watch: SocketWatch)
}

/// A socket that is watched, and its owner.
///
/// `@unchecked`: on the thread of the transfers only.
final class SocketWatch: @unchecked Sendable {
    let socket: Int32
    /// Differs from the key of every other watch, also of a later one of the same number.
    let key: UInt64
    fileprivate(set) var interest: Poller.Interest
    /// The handler that the gateway's delivery loop calls; nil when a thread of the writer's own watches the socket.
    var handler: DeliveryLoop.Handler?
    fileprivate unowned let owner: any SocketOwner
    fileprivate var isIdle = false
    /// The watcher refers to the watch until ``SocketWatcher/forget(_:)``, which breaks the cycle.
    private let watcher: SocketWatcher

    fileprivate init(_ socket: Int32, _ interest: Poller.Interest, _ owner: any SocketOwner, _ watcher: SocketWatcher, key: UInt64) {
        (self.socket, self.interest, self.owner, self.watcher, self.key) = (socket, interest, owner, watcher, key)
    }

    func isReady(for ready: Poller.Interest) {
        watcher.beginRound()
        if isIdle { watcher.forget(socket) } else { owner.act(socket, ready) }
    }
}

/// Watches the sockets of all connection generations; on the thread of the transfers only.
///
/// libcurl unregisters a socket after each request and registers it again before the next one on the same connection. The socket of
/// a connection stays watched in between, which saves two system calls per request. It is removed when it is closed, or when an
/// event comes on it while libcurl does not watch it. Descriptors that libcurl opens and closes by itself, such as its resolver's,
/// are removed at once.
final class SocketWatcher {
    private let events: any SocketEvents
    private var watches: [Int32: SocketWatch] = [:]
    private var lastKey: UInt64 = 0
    /// The sockets of connections, which are opened and closed here, with their generation.
    private var connections: [Int32: ObjectIdentifier] = [:]
    /// The time at which the present round of events, or the present call, began; the clock is read once for all that is done in it.
    var now = MonotonicTime.now
    private var isInRound = false
    /// The most open connections, over all generations.
    var limit = Int.max

    init(_ events: any SocketEvents) { self.events = events }

    /// Handles a call of libcurl's socket callback; `what` is one of `CURL_POLL_…`.
    func watch(_ socket: curl_socket_t, _ what: Int32, of generation: ConnectionGeneration) {
        if what == CURL_POLL_REMOVE || what == CURL_POLL_NONE {
            if connections[socket] != nil { watches[socket]?.isIdle = true } else { forget(socket) }
            return
        }
        var interest: Poller.Interest = []
        if what & CURL_POLL_IN != 0 { interest.insert(.readable) }
        if what & CURL_POLL_OUT != 0 { interest.insert(.writable) }
        watch(socket, interest, of: generation)
    }

    /// Has the owner told when the socket is ready, until ``close(_:)`` or ``forget(_:)``; `interest` is not empty.
    ///
    /// - Returns: false when it cannot be watched.
    @discardableResult func watch(_ socket: Int32, _ interest: Poller.Interest, of owner: any SocketOwner) -> Bool {
        do throws(SystemError) {
            if let watch = watches[socket], watch.owner === owner {
                let former = watch.interest
                (watch.interest, watch.isIdle) = (interest, false)
                if former != interest { try events.change(watch) }
            } else {
                forget(socket)
                // The socket belongs to a pair that libcurl opened by itself for a lookup; child processes must not inherit it.
                if connections[socket] == nil { closeAllOnExec() }
                lastKey += 1
                let watch = SocketWatch(socket, interest, owner, self, key: lastKey)
                watches[socket] = watch
                try events.begin(watch)
            }
            return true
        } catch {
            // Without a watch the transfer ends by its timeout, which is a retry.
            forget(socket)
            return false
        }
    }

    func forget(_ socket: Int32) {
        if let watch = watches.removeValue(forKey: socket) { events.end(watch) }
    }

    /// Forgets the sockets that an ended generation left behind.
    func forget(_ generation: ConnectionGeneration) {
        for socket in watches.filter({ $0.value.owner === generation }).keys { forget(socket) }
    }

    /// Opens the socket of a connection; fails at the limit.
    func open(_ family: Int32, _ type: Int32, _ number: Int32, of generation: ConnectionGeneration) throws(SystemError) -> Int32 {
        guard connections.count < limit else { throw SystemError("the share of descriptors", code: EMFILE) }
        let socket = Glibc.socket(family, type | Int32(SOCK_CLOEXEC.rawValue), number)
        guard socket >= 0 else { throw SystemError("socket") }
        connections[socket] = ObjectIdentifier(generation)
        return socket
    }

    /// How many connections a generation has.
    func count(of generation: ConnectionGeneration) -> Int {
        connections.values.count { $0 == ObjectIdentifier(generation) }
    }

    /// Closes the socket of a connection; the kernel may give its number to a new one.
    func close(_ socket: Int32) {
        connections[socket] = nil
        forget(socket)
        Glibc.close(socket)
    }

    /// Reads the clock for the events that are there together, once.
    func beginRound() {
        guard !isInRound else { return }
        (now, isInRound) = (.now, true)
    }

    /// Ends what ``beginRound()`` began.
    func endRound() { isInRound = false }
}
