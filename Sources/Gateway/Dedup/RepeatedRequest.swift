import LinuxSystem

/// One request of a listener that remembers, from its head to its answer; on its connection's event loop.
final class RepeatedRequest {
    enum Admission {
        /// It is to be served, with its answer through this reply.
        case first(Reply)
        case answered(Response)
        /// Its answer comes through its reply, with that of the request before it.
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

    /// Takes a piece of the body: hashed as it comes, a large one holds nobody up.
    func arrived(_ piece: Span<UInt8>) { hash.add(piece) }

    /// Decides what becomes of the request, once its body is there.
    func admit(_ reply: Reply, success: Response) -> Admission {
        // Without memory for its hash a request is like no other.
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
        gated.gate = { [memory] response in memory.settle(ticket, response) { reply.send($0) } }
        return gated
    }

    /// Ends its wait for the outcome of another one; false when it does not wait so.
    @discardableResult
    func leave() -> Bool {
        guard case .waiting(let key, let connection) = role else { return false }
        memory.leave(key, from: connection)
        return true
    }

    /// Nothing comes of it, and those that wait for it are told so.
    func giveUp(_ response: Response) {
        if case .first(let ticket) = role { memory.giveUp(ticket, response) }
    }
}
