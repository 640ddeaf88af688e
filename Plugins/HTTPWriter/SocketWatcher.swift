import CCurl
import Glibc
import LinuxSystem

/// Watches the sockets of all connection generations with epoll, as libcurl asks; on the transfer thread only.
///
/// libcurl unregisters a socket after each request and registers it again before the next one on the same connection. The socket of
/// a connection stays in epoll in between, which saves two system calls per request. It is removed when libcurl closes it, or when
/// an unexpected event comes on it. Descriptors that libcurl opens and closes by itself, such as its resolver's, are removed at
/// once.
final class SocketWatcher {
    private struct Watch {
        var interest: Poller.Interest
        let generation: ConnectionGeneration
        var isIdle = false
    }

    /// The epoll key of the wakeup; a socket's key is its number.
    private static let wakeupKey = UInt64.max

    private var poller: Poller
    private var watches: [Int32: Watch] = [:]
    /// The sockets of connections, which are opened and closed here, with their generation.
    private var connections: [Int32: ObjectIdentifier] = [:]
    private var events: [Poller.Event] = []
    /// The most open connections, over all generations.
    var limit = Int.max

    init(wakeup: Int32) throws(SystemError) {
        poller = try Poller()
        try poller.add(wakeup, .readable, key: Self.wakeupKey)
    }

    /// Handles a call of libcurl's socket callback; `what` is one of `CURL_POLL_…`.
    func watch(_ socket: curl_socket_t, _ what: Int32, of generation: ConnectionGeneration) {
        if what == CURL_POLL_REMOVE {
            if connections[socket] != nil { watches[socket]?.isIdle = true } else { forget(socket) }
            return
        }
        var interest: Poller.Interest = []
        if what & CURL_POLL_IN != 0 { interest.insert(.readable) }
        if what & CURL_POLL_OUT != 0 { interest.insert(.writable) }
        let known = watches.updateValue(Watch(interest: interest, generation: generation), forKey: socket)
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

    private func forget(_ socket: curl_socket_t) {
        if watches.removeValue(forKey: socket) != nil { poller.remove(socket) }
    }

    /// Forgets the sockets that an ended generation left behind.
    func forget(_ generation: ConnectionGeneration) {
        for socket in watches.filter({ $0.value.generation === generation }).keys { forget(socket) }
    }

    /// Opens the socket of a connection for libcurl; fails at the limit.
    func open(_ family: Int32, _ type: Int32, _ number: Int32, of generation: ConnectionGeneration) throws(SystemError) -> curl_socket_t {
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
    func close(_ socket: curl_socket_t) {
        connections[socket] = nil
        watches[socket] = nil
        Glibc.close(socket)
    }

    /// Waits for events or the timer, and tells each generation which of its sockets are ready.
    ///
    /// - Returns: true when the wakeup was signalled.
    func wait(until timer: MonotonicTime) -> Bool {
        var isWoken = false
        events.removeAll(keepingCapacity: true)
        poller.wait(until: timer, into: &events)
        for event in events {
            let socket = curl_socket_t(truncatingIfNeeded: event.key)
            if event.key == Self.wakeupKey {
                isWoken = true
            } else if let watch = watches[socket], !watch.isIdle {
                watch.generation.act(socket, Self.bits(event.ready))
            } else {
                poller.remove(socket)
                watches[socket] = nil
            }
        }
        return isWoken
    }

    private static func bits(_ ready: Poller.Interest) -> Int32 {
        var bits: Int32 = 0
        if !ready.isDisjoint(with: .readable) { bits |= CURL_CSELECT_IN }
        if !ready.isDisjoint(with: .writable) { bits |= CURL_CSELECT_OUT }
        if !ready.isDisjoint(with: .hangup) { bits |= CURL_CSELECT_ERR }
        return bits
    }
}
