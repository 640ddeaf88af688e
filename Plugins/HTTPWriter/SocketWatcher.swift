import CCurl
import Glibc
import LinuxSystem

/// The object that is called when its socket is ready; on the thread of the transfers only.
protocol SocketOwner: AnyObject {
    func act(_ socket: Int32, _ ready: Poller.Interest)
}

/// Watches the sockets of all connection generations with epoll; on the thread of the transfers only.
///
/// libcurl unregisters a socket after each request and registers it again before the next one on the same connection. The socket of
/// a connection stays in epoll in between, which saves two system calls per request. It is removed when it is closed, or when an
/// event comes on it while libcurl does not watch it. Descriptors that libcurl opens and closes by itself, such as its resolver's,
/// are removed at once.
final class SocketWatcher {
    private struct Watch {
        var interest: Poller.Interest
        unowned let owner: any SocketOwner
        var isIdle = false
    }

    /// The epoll key of the wakeup; a socket's key is its number.
    private static let wakeupKey = UInt64.max

    private let poller: Poller
    private var watches: [Int32: Watch] = [:]
    /// The sockets of connections, which are opened and closed here, with their generation.
    private var connections: [Int32: ObjectIdentifier] = [:]
    /// The time at which the present turn began; the clock is read once for all that is done in it.
    var now = MonotonicTime.now
    /// The most open connections, over all generations.
    var limit = Int.max

    /// - Parameter wakeup: a descriptor that ends a wait; nil for none.
    init(wakeup: Int32?) throws(SystemError) {
        poller = try Poller()
        if let wakeup { try poller.add(wakeup, .readable, key: Self.wakeupKey) }
    }

    /// The descriptor that is readable when a socket is ready.
    var descriptor: Int32 { poller.descriptor }

    /// Handles a call of libcurl's socket callback; `what` is one of `CURL_POLL_…`.
    func watch(_ socket: curl_socket_t, _ what: Int32, of generation: ConnectionGeneration) {
        if what == CURL_POLL_REMOVE {
            if connections[socket] != nil { watches[socket]?.isIdle = true } else { forget(socket) }
            return
        }
        var interest: Poller.Interest = []
        if what & CURL_POLL_IN != 0 { interest.insert(.readable) }
        if what & CURL_POLL_OUT != 0 { interest.insert(.writable) }
        watch(socket, interest, of: generation)
    }

    /// Has the owner told when the socket is ready, until ``close(_:)`` or ``forget(_:)``.
    func watch(_ socket: Int32, _ interest: Poller.Interest, of owner: any SocketOwner) {
        let known = watches.updateValue(Watch(interest: interest, owner: owner), forKey: socket)
        do throws(SystemError) {
            if known == nil {
                // The socket belongs to a pair that libcurl opened by itself for a lookup; child processes must not inherit it.
                if connections[socket] == nil { closeAllOnExec() }
                try poller.add(socket, interest, key: UInt64(socket))
            } else if known?.interest != interest {
                try poller.modify(socket, interest, key: UInt64(socket))
            }
        } catch {
            // Without a watch the transfer ends by its timeout, which is a retry.
            watches[socket] = nil
        }
    }

    func forget(_ socket: Int32) {
        if watches.removeValue(forKey: socket) != nil { poller.remove(socket) }
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
        watches[socket] = nil
        Glibc.close(socket)
    }

    /// Waits for events or the timer, and tells each owner which of its sockets are ready.
    ///
    /// - Returns: true when the wakeup was signalled.
    func wait(until timer: MonotonicTime) -> Bool {
        var isWoken = false
        let count = poller.wait(until: timer)
        now = .now
        for index in 0..<count {
            let event = poller[index]
            let socket = Int32(truncatingIfNeeded: event.key)
            if event.key == Self.wakeupKey {
                isWoken = true
            } else if let watch = watches[socket], !watch.isIdle {
                watch.owner.act(socket, event.ready)
            } else {
                poller.remove(socket)
                watches[socket] = nil
            }
        }
        return isWoken
    }
}
