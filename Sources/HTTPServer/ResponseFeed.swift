import LinuxSystem
import Synchronization

extension Response {
    /// The rest of an answer that has no end yet, such as a stream of server-sent events; usable from any thread.
    ///
    /// The connection closes after it. Bytes that its reader does not take are kept up to a bound; a reader that is further behind
    /// is disconnected, and so is one that takes nothing for the listener's write timeout.
    package final class Feed: Sendable {
        private struct Place: Sendable {
            let loop: EventLoop
            let connection: ConnectionKey
        }

        private struct State {
            var pending: [UInt8] = []
            /// nil before the head of the answer is written.
            var place: Place?
            var isPosted = false
            /// True when nothing is sent after `pending`.
            var isEnded = false
            /// True when the connection is to close at once, or has closed.
            var isClosed = false
            var released: (@Sendable () -> Void)?
        }

        private let room: Int
        private let state: Mutex<State>

        /// - Parameters:
        ///   - room: the most bytes that wait for the connection.
        ///   - released: called once, from any thread, when the connection has closed or the answer was never begun.
        package init(room: Int, released: @escaping @Sendable () -> Void) {
            self.room = room
            state = Mutex(State(released: released))
        }

        deinit { release() }

        /// Adds bytes to the answer.
        ///
        /// - Returns: false when the feed has ended, or ends now because its reader is too slow.
        @discardableResult
        package func send(_ bytes: [UInt8]) -> Bool {
            let (isOpen, loop) = state.withLock { state -> (Bool, Place?) in
                guard !state.isEnded, !state.isClosed else { return (false, nil) }
                if state.pending.count + bytes.count > room { state.isClosed = true } else { state.pending += bytes }
                return (!state.isClosed, Self.postOnce(&state))
            }
            if let loop { post(loop) }
            return isOpen
        }

        /// Ends the answer after the bytes so far.
        package func end() {
            let place = state.withLock { state -> Place? in
                state.isEnded = true
                return Self.postOnce(&state)
            }
            if let place { post(place) }
        }

        private static func postOnce(_ state: inout State) -> Place? {
            guard !state.isPosted, let place = state.place else { return nil }
            state.isPosted = true
            return place
        }

        private func post(_ place: Place) { place.loop.post { table in table.connection(place.connection)?.writeNext(of: self) } }

        // MARK: On the connection's event loop

        func open(_ loop: EventLoop, _ connection: ConnectionKey) {
            state.withLock { $0.place = Place(loop: loop, connection: connection) }
        }

        enum Next {
            case bytes([UInt8])
            case nothing
            case ended
            case overrun
        }

        /// What to send after the bytes that were taken before; takes no bytes while `isBlocked`.
        func next(isBlocked: Bool) -> Next {
            state.withLock { state in
                state.isPosted = false
                if state.isClosed { return .overrun }
                if isBlocked { return .nothing }
                if state.pending.isEmpty { return state.isEnded ? .ended : .nothing }
                defer { state.pending = [] }
                return .bytes(state.pending)
            }
        }

        func release() {
            let released = state.withLock { state in
                (state.isClosed, state.pending) = (true, [])
                return state.released.take()
            }
            released?()
        }
    }
}

/// How a connection sends a feed.
extension Connection {
    /// Begins an answer whose end is not known: its body ends with the connection.
    func respond(_ response: Response, with feed: Response.Feed) {
        request.keepsAlive = false
        answer.begin(
            response.serialized(date: table.date.current(), keepAlive: false, minorVersion: request.head.minorVersion, withBody: true))
        phase = .feeding(feed)
        deadline = table.now + request.service.http.writeTimeout
        feed.open(table.loop, key)
        write(feed)
    }

    /// Sends what a feed has got since; ignored after its end.
    func writeNext(of feed: Response.Feed) {
        if case .feeding(let present) = phase, present === feed { write(feed) }
    }

    /// Sends until the reader takes no more, or nothing is left.
    func write(_ feed: Response.Feed) {
        while !isClosed {
            let progress = answer.write(to: transport)
            guard progress != .failed else { return close() }
            switch feed.next(isBlocked: progress == .blocked) {
            case .bytes(let bytes):
                answer.begin(bytes)
                deadline = table.now + request.service.http.writeTimeout
            case .nothing:
                if progress == .done { deadline = .never }
                return set(progress == .blocked ? .writable : .readable)
            case .ended: return linger()
            case .overrun: return close()
            }
        }
    }
}
