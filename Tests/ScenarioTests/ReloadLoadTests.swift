import Foundation
import Glibc
import Testing

@testable import TestSupport

@Suite("Reloading under load", .serialized)
struct ReloadLoadTests {
    /// Senders that run until told to stop, each on its own thread, and collect answers other than 200.
    private final class Senders: @unchecked Sendable {
        private let lock = NSLock()
        private let done = DispatchGroup()
        private var isStopped = false
        private var sent = 0
        private var failures: [String] = []

        /// - Parameter keepsAlive: whether a sender uses one connection for all its requests, or one for each.
        func start(_ port: UInt16, _ target: String, keepsAlive: Bool) {
            done.enter()
            Thread.detachNewThread { [self] in
                defer { done.leave() }
                var connection: RawConnection?
                while lock.withLock({ !isStopped }) {
                    do {
                        let current = try connection ?? RawConnection(port)
                        connection = keepsAlive ? current : nil
                        note(try current.post(target, "a 1", headers: keepsAlive ? "" : "Connection: close\r\n").status)
                    } catch {
                        lock.withLock { failures.append("\(error)") }
                        connection = nil
                    }
                }
            }
        }

        private func note(_ status: Int) {
            lock.withLock {
                sent += 1
                if status != 200 { failures.append("\(status)") }
            }
        }

        /// - Returns: how many requests were answered, and what went wrong.
        func stop() -> (sent: Int, failures: [String]) {
            lock.withLock { isStopped = true }
            done.wait()
            return lock.withLock { (sent, failures) }
        }

        var count: Int { lock.withLock { sent } }
    }

    private static let rounds = Project.isSanitized ? 40 : 1000

    @Test("1,000 reloads under load fail no request and leak no descriptor, thread or memory")
    func thousandReloads() throws {
        try Scenario.run { scenario in
            let upstream = try Recorder(scenario)
            func config(_ round: Int) -> String {
                let label = "\"external_labels\": { \"round\": \"\(round % 2)\" },"
                // A short queue, because the memory and time of a backlog would distort the result.
                let short = "\"queue\": { \"max_profiles\": 100 },"
                var receivers = [
                    "changes": ReceiverEntry.writer(upstream.url, more: "\"max_in_flight\": 1, \(short)", config: label),
                    "stays": ReceiverEntry.archive(more: short),
                ]
                if round % 2 == 0 { receivers["comes"] = "\"plugin\": \"StdoutSink\", \(short)" }
                let to = receivers.keys.sorted()
                let other = round % 4 < 2 ? GatewayProcess.listener(to, name: "other") : ""
                return GatewayProcess.config(listeners: GatewayProcess.listener(to) + other, receivers: receivers)
            }
            let gateway = try GatewayProcess(scenario, config(0))
            let socket = try gateway.socket(gateway.port)
            /// Reloads and waits until the replaced receivers and listeners have ended.
            func reload(_ rounds: Range<Int>) throws -> Footprint {
                let senders = Senders()
                for number in 0..<4 { senders.start(gateway.port, "/ingest?name=load", keepsAlive: number < 3) }
                let first = try RawConnection(gateway.adminPort)
                for round in rounds {
                    try gateway.write(config(round), scenario)
                    do { #expect(try first.post("/-/reload").status == 200) } catch {
                        throw NeverCame(what: "an answer to reload \(round): \(error)", seen: gateway.log.lines.suffix(30))
                    }
                }
                let outcome = senders.stop()
                #expect(outcome.failures == [], "of \(outcome.sent)")
                #expect(outcome.sent > rounds.count)
                first.close()
                return try quiet(gateway)
            }
            _ = try reload(1..<(Self.rounds / 10 + 1))
            let warm = try reload((Self.rounds / 10 + 1)..<(Self.rounds / 5 + 1))
            let after = try reload((Self.rounds / 5 + 1)..<(Self.rounds + 1))
            #expect(try gateway.socket(gateway.port) == socket)
            #expect((after.descriptors, after.threads) == (warm.descriptors, warm.threads))
            // The memory differs by a few hundred KiB; a leaked page for each of 800 reloads would be 3,200.
            if !Project.isSanitized { #expect(after.residentKilobytes < warm.residentKilobytes + 3000) }
            #expect(gateway.log.lines.allSatisfy { !$0.contains("level=error") })
            #expect(try gateway.stop() == 0)
        }
    }

    /// Waits until the queues are empty and no connection or ending thread is left.
    private func quiet(_ gateway: GatewayProcess) throws -> Footprint {
        try gateway.waitForMetrics("a quiet gateway") { metrics in
            metrics.receivers.allSatisfy { metrics.queued($0) == 0 } && metrics.connections() == 0
                && (try? ending(gateway)) == 0
        }
        return try Footprint(gateway)
    }

    /// The number of threads, by their names, that end replaced receivers or listeners.
    private func ending(_ gateway: GatewayProcess) throws -> Int {
        let tasks = "/proc/\(gateway.process.id)/task"
        return try FileManager.default.contentsOfDirectory(atPath: tasks).count { task in
            (try? String(contentsOfFile: "\(tasks)/\(task)/comm", encoding: .utf8))?.hasPrefix("end-") == true
        }
    }
}
