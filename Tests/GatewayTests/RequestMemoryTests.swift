import LinuxSystem
import ProfileArchive
import Testing

@testable import HTTPServer
@testable import ProfileAPI
@testable import Profiles
@testable import TestSupport

extension RequestKey {
    /// A key that differs for each number.
    static func numbered(_ number: Int) throws -> RequestKey {
        let hash = SHA256Stream()
        hash.add(Array("\(number)".utf8).span.bytes)
        let digest = hash.finish()
        let key = RequestKey(digest.span.bytes)
        return try #require(key)
    }
}

@Suite("A listener's memory of earlier requests")
final class RequestMemoryTests {
    private let known = RequestMemory.Remembered(limit: 3)
    private lazy var memory = RequestMemory(listener: "l", window: .seconds(10), known: known)
    private let told = WaitableValue<[Int: [Int]]>([:])
    private struct NoTicket: Error {}

    /// Admits a request on the connection with this number; what the connection is told later is in ``told``.
    private func admit(_ key: Int, on connection: Int = 0, now: MonotonicTime = .now) throws -> RequestMemory.Admission {
        memory.admit(
            try .numbered(key), from: ConnectionKey(rawValue: UInt64(connection)), now: now, success: .ok,
            tell: { [told] response in told.update { $0[connection, default: []].append(response.outcome ?? response.status) } })
    }

    /// Admits a request that must be the first with its key.
    private func first(_ key: Int, on connection: Int = 0) throws -> RequestMemory.Ticket {
        guard case .first(let ticket) = try admit(key, on: connection) else { throw NoTicket() }
        return ticket
    }

    /// Settles a first request, which is answered without a disk here.
    private func finish(_ ticket: RequestMemory.Ticket, _ status: Int = 200, outcome: Int? = nil) {
        let response = Response(status: status, outcome: outcome)
        let answer = memory.finish(ticket, response) { _ in Issue.record("nothing is sent later") }
        #expect(answer?.status == status)
    }

    /// Admits a request, and returns the result in a word.
    private func word(_ key: Int, on connection: Int = 0, now: MonotonicTime = .now) throws -> String {
        switch try admit(key, on: connection, now: now) {
        case .first: "first"
        case .answered: "answered"
        case .waiting: "waiting"
        }
    }

    @Test(
        "A repeat of an accepted request is answered, and one of a failed request counts as new",
        arguments: [200, 204, 400, 429, 500, 503, 504])
    func outcome(status: Int) throws {
        finish(try first(1), status)
        #expect(try word(1) == (status == 200 ? "answered" : "first"))
        #expect(known.deduplicated.value == (status == 200 ? 1 : 0))
    }

    @Test("A failed gRPC-Web request counts as failed, although its HTTP status is 200")
    func grpcWeb() throws {
        finish(try first(1), 200, outcome: 503)
        #expect(try word(1) == "first")
    }

    @Test("Repeats wait while the first request is open, and each gets its answer once", arguments: [200, 503])
    func waiting(status: Int) throws {
        let ticket = try first(1)
        for connection in 1...3 { #expect(try word(1, on: connection) == "waiting") }
        #expect(try word(2) == "first", "another request does not wait")
        #expect(told.current.isEmpty)
        finish(ticket, status)
        #expect(told.current == [1: [status], 2: [status], 3: [status]])
        finish(ticket, 200)
        #expect(told.current == [1: [status], 2: [status], 3: [status]])
        #expect(known.deduplicated.value == (status == 200 ? 3 : 0))
        #expect(memory.counts.open == 1)
    }

    @Test("A connection that leaves while it waits is told nothing")
    func leave() throws {
        let ticket = try first(1)
        for connection in 1...2 { _ = try admit(1, on: connection) }
        memory.stopWaiting(try .numbered(1), from: ConnectionKey(rawValue: 1))
        memory.stopWaiting(try .numbered(1), from: ConnectionKey(rawValue: 9))
        finish(ticket)
        #expect(told.current == [2: [200]])
    }

    @Test("The late outcome of an abandoned request does not settle the next one with its key")
    func staleTicket() throws {
        let stale = try first(1)
        _ = try admit(1, on: 1)
        memory.giveUp(stale, .error(503, "gone"))
        #expect(told.current == [1: [503]])
        let fresh = try first(1)
        finish(stale)
        #expect(try word(1, on: 2) == "waiting")
        finish(fresh)
        #expect(told.current == [1: [503], 2: [200]])
    }

    @Test("A request is remembered until its window ends, and a repeat does not extend the window")
    func expiry() throws {
        let before = MonotonicTime.now
        finish(try first(1))
        let after = MonotonicTime.now
        #expect(try word(1, now: before + .seconds(9)) == "answered")
        #expect(try word(1, now: before + .nanoseconds(9_999_999_999)) == "answered")
        #expect(try word(1, now: after + .seconds(10)) == "first")
    }

    @Test("A new window changes nothing for accepted and open requests")
    func anotherWindow() throws {
        finish(try first(1))
        let (open, before) = (try first(2), MonotonicTime.now)
        memory = RequestMemory(listener: "l", window: .seconds(1), known: known)
        #expect(try word(1, now: before + .seconds(5)) == "answered")
        #expect(try word(2, on: 1) == "waiting")
        finish(open)
        #expect(told.current == [1: [200]])
    }

    @Test("All requests are remembered up to the limit, and the oldest are forgotten beyond it", arguments: [2, 3, 4])
    func bounds(count: Int) throws {
        for key in 1...count { finish(try first(key)) }
        #expect(memory.counts.accepted == min(count, 3))
        for key in (1...count).reversed() where key > 1 { #expect(try word(key) == "answered") }
        #expect(try word(1) == (count <= 3 ? "answered" : "first"))
    }

    @Test("Only the last requests of a flood are remembered")
    func flood() throws {
        var accepted = AcceptedRequests(limit: 100)
        for number in 0..<10_000 { accepted.insert(try .numbered(number), until: .at(10)) }
        #expect(accepted.count == 100)
        #expect(accepted.contains(try .numbered(9900), now: .at(1)))
        #expect(!accepted.contains(try .numbered(9899), now: .at(1)))
        accepted.forgetExpired(now: .at(10))
        #expect(accepted.count == 0)
    }

    @Test("The default limit of remembered requests is the documented one")
    func documentedBound() { #expect(AcceptedRequests.most == 262_144) }

    // MARK: Keys

    /// The key of a request with these properties, whose body arrives in these pieces.
    private static func key(
        _ listener: String = "l", tenant: String = "", path: String = "/ingest", query: String = "name=a",
        fields: [String] = ["Content-Type: text/plain"], pieces: [String] = ["body"]
    ) throws -> RequestKey {
        let text = "POST \(path)?\(query) HTTP/1.1\r\nHost: a\r\n" + fields.map { $0 + "\r\n" }.joined() + "\r\n"
        guard case .head(let head, _) = try RequestParser.parse(Array(text.utf8)[...], scanned: 0) else { throw NoTicket() }
        var content = ProfileContent(api: .ingest, receivedAt: 1, path: path, format: .pprof, samples: [])
        (content.query, content.tenant) = (query, tenant)
        let hash = RequestHash(listener: listener, content, head)
        for piece in pieces { hash.add(Array(piece.utf8).span) }
        return try #require(hash.finish())
    }

    @Test("The pieces of a body and other headers do not change a request's key")
    func sameKeys() throws {
        let key = try Self.key()
        #expect(try Self.key(pieces: ["b", "", "od", "y"]) == key)
        #expect(try Self.key(fields: ["User-Agent: b", "Content-Type: text/plain", "Traceparent: 1"]) == key)
    }

    @Test("Requests that differ in one property have different keys")
    func differentKeys() throws {
        let keys = [
            try Self.key(), try Self.key("m"), try Self.key(tenant: "t"), try Self.key(path: "/pyroscope/ingest"),
            try Self.key(query: "name=b"), try Self.key(query: ""), try Self.key(fields: []),
            try Self.key(fields: ["Content-Type: text/html"]),
            try Self.key(fields: ["Content-Type: text/plain", "Content-Encoding: gzip"]),
            try Self.key(fields: ["Content-Type: text/plain", "Grpc-Encoding: gzip"]), try Self.key(pieces: []),
            try Self.key(pieces: ["bodY"]),
            try Self.key(pieces: ["body", "body"]),
            // These two have the same bytes, divided differently.
            try Self.key("la", tenant: "b"), try Self.key("l", tenant: "ab"),
        ]
        #expect(Set(keys).count == keys.count)
    }
}
