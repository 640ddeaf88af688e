import Foundation
import Testing

/// Sends numbered profiles on several connections, and remembers the answer to each.
final class Load: @unchecked Sendable {
    /// What is sent; API and size depend only on the ID and the seed.
    struct Mix: Sendable {
        var sizes = [100, 1000, 1000, 10_000, 50_000, 300_000]
        var pushes = true
        /// How many requests are sent on a connection before their answers are read.
        var ahead = 1

        static let small = Mix(sizes: [100, 200, 300], pushes: false, ahead: 16)
        static let ingest = Mix(pushes: false)
    }

    private struct Request {
        let ids: [Int]
        let target: String
        let type: String
        let body: [UInt8]
    }

    private let condition = NSCondition()
    private let senders = DispatchGroup()
    private let seed: UInt64
    private let mix: Mix
    /// The status by ID, or 0 without an answer.
    private var statuses: [UInt16] = []
    private var answers = 0
    private var end = 0
    private var lost = 0

    init(_ seed: inout SeededRandom, _ mix: Mix = Mix()) { (self.seed, self.mix) = (seed.next(), mix) }

    // MARK: Sending

    /// Starts sending this many profiles, until that is done, the gateway is gone or ``stop()``.
    func start(_ gateway: GatewayProcess, connections: Int, count: Int = .max / 2) {
        let port = gateway.port
        condition.withLock { (end, lost) = (statuses.count + count, 0) }
        for _ in 0..<connections {
            senders.enter()
            Thread.detachNewThread { [self] in
                defer { senders.leave() }
                do {
                    let connection = try RawConnection(port)
                    defer { connection.close() }
                    while try send(on: connection) {}
                } catch {
                    condition.withLock { lost += 1 }
                }
                condition.withLock { condition.broadcast() }
            }
        }
    }

    /// Sends this many profiles, and waits for all answers.
    func send(_ count: Int, to gateway: GatewayProcess, connections: Int = 4, _ location: SourceLocation = #_sourceLocation) throws {
        start(gateway, connections: connections, count: count)
        finish()
        #expect(condition.withLock { lost } == 0, "every request is answered", sourceLocation: location)
    }

    /// Begins no more requests, and waits until all senders are done.
    func stop() {
        condition.withLock { end = 0 }
        finish()
    }

    /// Waits until all senders are done, for example because the gateway is gone.
    func finish() { senders.wait() }

    /// Sends a few requests and reads their answers, and returns false when nothing is left to send.
    private func send(on connection: RawConnection) throws -> Bool {
        let requests = (0..<mix.ahead).compactMap { _ in take() }
        for request in requests {
            let head =
                "POST \(request.target) HTTP/1.1\r\nHost: a\r\nContent-Type: \(request.type)\r\nContent-Length: \(request.body.count)\r\n\r\n"
            guard connection.send(Array(head.utf8) + request.body) else { throw NeverCame(what: "room to send", seen: []) }
        }
        for request in requests {
            let status = try connection.readResponse().status
            condition.withLock {
                for id in request.ids { statuses[id] = UInt16(status) }
                answers += 1
                condition.broadcast()
            }
        }
        return !requests.isEmpty
    }

    /// The next request, or nil at the end.
    private func take() -> Request? {
        condition.withLock {
            let id = statuses.count
            guard id < end else { return nil }
            var shape = SeededRandom(seed: seed ^ UInt64(id))
            let isPush = mix.pushes && shape.chance(1, of: 2)
            let count = isPush ? min(end - id, Int.random(in: 1...3, using: &shape)) : 1
            let bodies = (id..<(id + count)).map { id in
                let size = mix.sizes.randomElement(using: &shape) ?? 0
                return Frame.body(id, size: Int.random(in: (size / 2)...size, using: &shape))
            }
            statuses += Array(repeating: 0, count: count)
            let ids = Array(id..<(id + count))
            return isPush
                ? Request(
                    ids: ids, target: GatewayProcess.pushPath, type: "application/proto", body: zip(ids, bodies).flatMap(PushMessage.series)
                )
                : Request(ids: ids, target: "/ingest?name=load&from=\(id)&until=0", type: "text/plain", body: bodies[0])
        }
    }

    // MARK: Results

    /// How many requests have been answered.
    var answered: Int { condition.withLock { answers } }
    /// How many profiles have been sent; their IDs are below this number.
    var sent: Int { condition.withLock { statuses.count } }

    /// The profiles with this status; 0 is no answer.
    func ids(answered status: Int) -> [Int] {
        condition.withLock { statuses.indices.filter { statuses[$0] == UInt16(status) } }
    }

    /// Waits until this many requests have been answered, or the senders have lost the gateway.
    func wait(forAnswers count: Int) throws {
        let limit = Date(timeIntervalSinceNow: Project.patience)
        condition.lock()
        defer { condition.unlock() }
        while answers < count, lost == 0 {
            guard condition.wait(until: limit) else { throw NeverCame(what: "\(count) answers", seen: ["\(answers)"]) }
        }
    }
}

/// A PushRequest in protobuf whose series have one sample each.
enum PushMessage {
    /// A series with one sample whose ID contains this number.
    static func series(_ id: Int, _ profile: [UInt8]) -> [UInt8] {
        let labels = label("__name__", "cpu") + label("service_name", "load")
        let sample = field(1, profile) + field(2, Array("sample-\(id).".utf8))
        return field(1, labels + field(2, sample))
    }

    private static func label(_ name: String, _ value: String) -> [UInt8] {
        field(1, field(1, Array(name.utf8)) + field(2, Array(value.utf8)))
    }

    private static func field(_ number: UInt8, _ content: [UInt8]) -> [UInt8] {
        var (length, bytes) = (content.count, [number << 3 | 2])
        while length >= 0x80 {
            bytes.append(UInt8(truncatingIfNeeded: length) | 0x80)
            length >>= 7
        }
        return bytes + [UInt8(length)] + content
    }
}

extension GatewayProcess {
    /// Waits until these receivers have empty queues, as long as the queues become shorter.
    func drain(_ receivers: String...) throws {
        var left = Int.max
        while left > 0 {
            let before = left
            let metrics = try waitForMetrics("queues that become shorter than \(before)") { metrics in
                receivers.map { metrics.queued($0) }.reduce(0, +) < before
            }
            left = receivers.map { metrics.queued($0) }.reduce(0, +)
        }
    }
}
