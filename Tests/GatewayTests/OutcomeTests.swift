import PluginABI
import Synchronization
import Testing

@testable import PluginHost
@testable import Telemetry

@Suite("Outcomes of plugins with structs of different sizes")
struct OutcomeTests {
    /// Collects outcomes and breaches of the interface.
    private final class Events: PluginEvents {
        let outcomes = Mutex<[DeliveryOutcome]>([])
        let breaches = Mutex<[String]>([])

        func finish(_ token: UInt, _ outcome: DeliveryOutcome) { outcomes.withLock { $0.append(outcome) } }
        func pluginStated(_ health: Health, _ reason: String) {}
        func pluginLogged(_ level: Log.Level, _ message: String) {}
        func timerSet() {}
        func pluginMisbehaved(_ breach: PluginBreach) { breaches.withLock { $0.append(breach.what) } }
        func pluginEnded(_ end: PluginEnd) {}
    }

    /// Finishes a delivery as a plugin does, with this message in an outcome of this size.
    private static func finish(_ message: String, status: gw_status = .rejected, size: Int = MemoryLayout<gw_outcome>.size) -> (
        outcome: DeliveryOutcome?, breaches: [String]
    ) {
        let events = Events()
        let services = HostServices(events: events, metrics: PluginMetrics())
        let bytes = Array(message.utf8)
        let reason = Array("too old".utf8)
        bytes.withUnsafeBufferPointer { message in
            reason.withUnsafeBufferPointer { reason in
                var outcome = gw_outcome()
                (outcome.size, outcome.status, outcome.http_status) = (size, status, 400)
                outcome.reason = gw_slice(bytes: reason.baseAddress, count: reason.count)
                outcome.sender_message = gw_slice(bytes: message.baseAddress, count: message.count)
                services.table.pointee.finish(services.table.pointee.context, nil, &outcome)
            }
        }
        return (events.outcomes.withLock(\.first), events.breaches.withLock { $0 })
    }

    @Test("An outcome of v1.0's size is valid, and the bytes after it are not read")
    func old() throws {
        #expect(MemoryLayout<gw_outcome>.offset(of: \.sender_message) == 56)
        for size in [56, 57, MemoryLayout<gw_outcome>.size - 1] {
            let (outcome, breaches) = Self.finish("hello", size: size)
            #expect(outcome?.status == .rejected && outcome?.httpStatus == 400 && outcome?.reason == "too old")
            #expect(outcome?.senderMessage == "" && breaches.isEmpty)
        }
        #expect(Self.finish("hello", size: 55).breaches.count == 1)
    }

    @Test("A rejection of today's or a larger size has a message for the sender")
    func new() {
        for size in [MemoryLayout<gw_outcome>.size, MemoryLayout<gw_outcome>.size + 8] {
            #expect(Self.finish("profile too old", size: size).outcome?.senderMessage == "profile too old")
        }
        for status in [gw_status.delivered, .retry, .aborted] { #expect(Self.finish("hello", status: status).outcome?.senderMessage == "") }
    }

    @Test("The message for the sender is limited to 256 printable bytes", arguments: [0, 255, 256, 257, 100_000])
    func bounds(count: Int) {
        #expect(Self.finish(String(repeating: "a", count: count)).outcome?.senderMessage.utf8.count == min(256, count))
        #expect(Self.finish("a\r\nb\u{1b}c" + String(repeating: "ü", count: count)).outcome?.senderMessage.hasPrefix("a  b c") == true)
    }
}
