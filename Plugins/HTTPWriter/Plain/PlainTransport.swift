import Glibc
import LinuxSystem
import PushWire

/// Moves the requests of a pool on when their sockets are ready.
extension PlainPool {
    /// Takes what a socket is ready for.
    func act(_ connection: PlainConnection, _ ready: Poller.Interest) {
        guard let exchange = connection.exchange else { return look(connection) }
        if connection.isConnecting {
            let failure = Socket.failure(of: connection.socket)
            return failure == 0 ? connected(connection, exchange, .now) : tryNext(exchange, connection, failure, .now)
        }
        // The answer comes first: it may say that the rest of the request is not wanted.
        if !ready.isDisjoint(with: [.readable, .hangup]) { receive(exchange, connection) }
        if !ready.isDisjoint(with: .writable), connection.exchange === exchange, !exchange.isSent, !exchange.hasStopped {
            send(exchange, connection)
        }
    }

    /// Looks at an idle connection that is ready: the server has closed it, or sent what nobody asked for, such as a 408.
    private func look(_ connection: PlainConnection) {
        if case .wouldBlock = connection.receive(into: &buffer) { return }
        drop(connection)
    }

    // MARK: Sending

    private static let unsent = "the request could not be sent"

    func send(_ exchange: PlainExchange, _ connection: PlainConnection) {
        switch exchange.transmit(connection.socket) {
        case .done where exchange.isSent:
            // A success that came before the end of the request counts only now: the server may need the rest for it.
            guard exchange.answer.isComplete else { return connection.wait(for: .readable) }
            exchange.end()
            end(exchange, connection, keeps: connection.canBeKept && exchange.answer.keepsAlive)
        case .done, .wouldBlock: connection.wait(for: connection.hasEnded ? .writable : [.readable, .writable])
        case .failed(let code):
            exchange.stopSending()
            if exchange.answer.isComplete { return fail(exchange, connection, Self.unsent, code) }
            // The server may have refused the request before it hung up. The end of the connection is an event too.
            connection.wait(for: .readable)
            receive(exchange, connection)
        }
    }

    // MARK: Receiving

    private func receive(_ exchange: PlainExchange, _ connection: PlainConnection) {
        do throws(AnswerParser.Failure) {
            let (received, hasMore) = try exchange.receive(connection, into: &buffer)
            // Bytes after the answer belong to no request.
            if hasMore { connection.canBeKept = false }
            switch received {
            case .wouldBlock: break
            case .failed(let code): fail(exchange, connection, "the answer could not be received", code)
            case .done(0): takeEnd(exchange, connection)
            case .done: goOn(exchange, connection)
            }
        } catch {
            exchange.end(error)
            end(exchange, connection)
        }
    }

    /// Acts on the part of the answer that has come.
    private func goOn(_ exchange: PlainExchange, _ connection: PlainConnection) {
        // Only a success needs the rest of the request.
        if exchange.answer.status >= 300, exchange.answer.hasHead, !exchange.isSent {
            exchange.stopSending()
            connection.canBeKept = false
            connection.wait(for: .readable)
        }
        guard exchange.answer.isComplete else { return }
        guard exchange.isSettled else { return exchange.hasStopped ? fail(exchange, connection, Self.unsent, EPIPE) : () }
        exchange.end()
        end(exchange, connection, keeps: exchange.isSent && connection.canBeKept && exchange.answer.keepsAlive)
    }

    private func takeEnd(_ exchange: PlainExchange, _ connection: PlainConnection) {
        (connection.canBeKept, connection.hasEnded) = (false, true)
        do throws(AnswerParser.Failure) {
            try exchange.takeEnd()
            // The server may still read, although it will say nothing more.
            guard exchange.isSettled else {
                return exchange.hasStopped ? fail(exchange, connection, Self.unsent, EPIPE) : connection.wait(for: .writable)
            }
            exchange.end()
        } catch { exchange.end(failure: error.words, isStale: connection.isReused && !exchange.answer.hasBegun) }
        end(exchange, connection)
    }

    private func fail(_ exchange: PlainExchange, _ connection: PlainConnection, _ what: String, _ code: Int32) {
        let isStale = connection.isReused && !exchange.answer.hasBegun
        exchange.end(failure: "\(what): \(SystemError.text(of: code))", isStale: isStale)
        end(exchange, connection)
    }
}
