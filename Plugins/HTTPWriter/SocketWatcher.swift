import CCurl
import Glibc
import LinuxSystem

/// The sockets that libcurl wants watched, those of all generations; on the transfer thread only.
///
/// libcurl says "no longer" after each request and "again" before the next one on the same connection. A connection stays in
/// epoll in between, which saves two system calls a request; it leaves when libcurl closes it, or when something comes on it
/// that nobody asked for. Descriptors that libcurl opens by itself, as its resolver does, it also closes by itself, so those
/// leave at once.
final class SocketWatcher {
    private struct Watch {
        var interest: Poller.Interest
        let generation: ConnectionGeneration
        var isIdle = false
    }

    /// The key of the wakeup; sockets have their own number.
    private static let wakeupKey = UInt64.max

    private var poller: Poller
    private var watches: [Int32: Watch] = [:]
    /// The sockets of connections, opened and closed here, each with the generation that it is of.
    private var connections: [Int32: ObjectIdentifier] = [:]
    private var events: [Poller.Event] = []
    /// How many connections there may be at a time, of all generations together.
    var limit = Int.max

    init(wakeup: Int32) throws(SystemError) {
        poller = try Poller()
        try poller.add(wakeup, .readable, key: Self.wakeupKey)
    }

    /// Does what libcurl's socket callback asks: `what` is one of `CURL_POLL_…`.
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
                // Of a pair that libcurl has opened by itself, for a lookup.
                if connections[socket] == nil { closeAllOnExec() }
                try poller.add(socket, interest, key: UInt64(socket))
            } else if known?.interest != interest {
                try poller.modify(socket, interest, key: UInt64(socket))
            }
        } catch {
            // The transfer then ends by its own timeout, as a retry.
            watches[socket] = nil
        }
    }

    private func forget(_ socket: curl_socket_t) {
        if watches.removeValue(forKey: socket) != nil { poller.remove(socket) }
    }

    /// Forgets what a generation that has ended left behind.
    func forget(_ generation: ConnectionGeneration) {
        for socket in watches.filter({ $0.value.generation === generation }).keys { forget(socket) }
    }

    /// Opens the socket of a connection for libcurl; none beyond the limit.
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

    /// Closes the socket of a connection; its number may come back as another one's.
    func close(_ socket: curl_socket_t) {
        connections[socket] = nil
        watches[socket] = nil
        Glibc.close(socket)
    }

    /// Waits for what happens next and tells each generation which of its sockets are ready.
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
