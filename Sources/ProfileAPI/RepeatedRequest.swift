import HTTPServer
import LinuxSystem

/// One request of a listener with a `dedup_window`, from its head to its answer; runs on the connection's event loop.
final class RepeatedRequest {
    enum Admission {
        /// The request is to be served, and answered through this reply.
        case first(Reply)
        case answered(Response)
        /// The request is identical to one being served, and gets its answer through its own reply when that one is answered.
        case waiting
    }

    private enum Role {
        case undecided
        case first(RequestMemory.Ticket)
        case waiting(RequestKey, ConnectionKey)
    }

    private let memory: RequestMemory
    private let hash: RequestHash
    private var role = Role.undecided

    init(_ memory: RequestMemory, _ hash: RequestHash) { (self.memory, self.hash) = (memory, hash) }

    /// Hashes a piece of the body as it arrives, so that a large body does not block the event loop.
    func arrived(_ piece: Span<UInt8>) { hash.add(piece) }

    /// Decides how the request is handled, after its body has arrived.
    func admit(_ reply: Reply, success: Response) -> Admission {
        // If the hash could not get memory, the request is treated as unique.
        guard let key = hash.finish() else { return .first(reply) }
        switch memory.admit(key, from: reply.connection, success: success, tell: { reply.send($0) }) {
        case .first(let ticket):
            role = .first(ticket)
            return .first(gated(reply, ticket))
        case .answered: return .answered(success)
        case .waiting:
            role = .waiting(key, reply.connection)
            return .waiting
        }
    }

    private func gated(_ reply: Reply, _ ticket: RequestMemory.Ticket) -> Reply {
        var gated = reply
        gated.gate = { [memory] response in memory.finish(ticket, response) { reply.send($0) } }
        return gated
    }

    /// Stops waiting for the outcome of an identical request; returns false when it was not waiting.
    @discardableResult
    func stopWaiting() -> Bool {
        guard case .waiting(let key, let connection) = role else { return false }
        memory.stopWaiting(key, from: connection)
        return true
    }

    /// Gives the request up, and sends this response to identical requests that wait for its outcome.
    func giveUp(_ response: Response) {
        if case .first(let ticket) = role { memory.giveUp(ticket, response) }
    }
}
