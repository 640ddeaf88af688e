import LinuxSystem
import Testing

@testable import PluginHost
@testable import Profiles
@testable import Receivers
@testable import Telemetry

@Suite("What the gateway and a plugin's process tell each other")
struct PluginMessageTests {
    private static let place = SharedPlace(offset: 5, count: 70_000)
    private static let messages: [PluginMessage] = [
        .create(
            PluginStart(
                receiver: "r", path: "/p.so", sha256: "", config: "{\"a\":\"ü\"}", references: ["a", "b[0].c"], files: 77,
                user: SystemUser(id: 5, group: 6), hasLowPriority: true, gatewayVersion: "1.2", directory: "/d", maxInFlight: 7,
                deliveryTimeout: .seconds(8))),
        .create(
            PluginStart(
                receiver: "", path: "", sha256: "ab", config: "{}", references: [], files: 0, user: nil,
                hasLowPriority: false, gatewayVersion: "", directory: "", maxInFlight: 1, deliveryTimeout: .zero)),
        .deliver(token: .max, attempt: 3, progress: 9, sequence: 1, place: place), .flush(token: 7), .abort, .destroy, .start, .drain,
        .probe(token: 8), .started("not yet"),
        .created(
            PluginIdentity(
                name: "a.b", version: "1", interface: "1.1", sha256: "ab", later: PluginIdentity.LaterFunctions(drain: true, probe: true),
                configSchema: "{}")),
        .notLoaded("why"), .refused(""),
        .finished(
            token: 4,
            DeliveryOutcome(
                status: .retry, retryAfter: .seconds(3), progress: 2, httpStatus: 503, reason: "later", senderMessage: "come again")),
        .released(place), .health(.degraded, "slow"), .log(.warning, "a\nb"), .breach(PluginBreach(.metric, "x")),
        .metric(id: 3, kind: 2, name: "a_seconds", help: "h", labels: [MetricLabel(name: "l", value: "v")]), .observed(id: 3, -5),
    ]

    private static func encoded(_ message: PluginMessage) -> [UInt8] {
        var writer = LittleEndianWriter()
        message.encode(into: &writer)
        return writer.bytes
    }

    private static func decoded(_ bytes: some Sequence<UInt8>) -> PluginMessage? {
        Array(bytes).withUnsafeBytes { PluginMessage($0) }
    }

    @Test("Every message is read back as it was written")
    func roundTrip() throws {
        for message in Self.messages {
            let bytes = Self.encoded(message)
            #expect(bytes[..<4] == LittleEndianBytes(bytes.count - 4))
            let read = try #require(Self.decoded(bytes.dropFirst(4)), "\(message)")
            #expect("\(read)" == "\(message)")
        }
    }

    private func LittleEndianBytes(_ count: Int) -> ArraySlice<UInt8> {
        var writer = LittleEndianWriter()
        writer.add(UInt32(count))
        return writer.bytes[...]
    }

    @Test("A message that is cut, longer than it says, or of another kind is none")
    func damaged() {
        for message in Self.messages {
            let bytes = Self.encoded(message).dropFirst(4)
            for count in 0..<bytes.count { #expect(Self.decoded(bytes.prefix(count)) == nil) }
            #expect(Self.decoded(bytes + [0]) == nil)
        }
        for kind in [0, 19, 255] as [UInt8] { #expect(Self.decoded([kind]) == nil) }
    }

    @Test("Random bytes are read without a crash")
    func random() {
        var random = SystemRandomNumberGenerator()
        for _ in 0..<20_000 {
            let kind = UInt8.random(in: 0...20, using: &random)
            let rest = (0..<Int.random(in: 0...60, using: &random)).map { _ in UInt8.random(in: 0...(.random() ? 255 : 3), using: &random) }
            _ = Self.decoded([kind] + rest)
        }
    }

    @Test("Messages that arrive in pieces and together come out in order, and the end is told")
    func channel() throws {
        let ends = try Socket.pair()
        let one = PluginChannel(FileDescriptor(owning: ends.0), longest: PluginMessage.longestToGateway)
        let raw = FileDescriptor(owning: ends.1)
        let bytes = Self.messages.flatMap(Self.encoded)
        var read: [PluginMessage] = []
        for piece in stride(from: 0, to: bytes.count, by: 7).map({ bytes[$0..<min(bytes.count, $0 + 7)] }) {
            try raw.writeAll(Array(piece).span.bytes)
            if case .messages(let more) = one.receive(waiting: 1000) { read += more }
        }
        #expect("\(read)" == "\(Self.messages)")
        if case .nothingYet = one.receive(waiting: 0) {} else { Issue.record("something came") }
        try raw.writeAll(([255, 255, 255, 255, 0] as [UInt8]).span.bytes)
        if case .ended = one.receive(waiting: 1000) {} else { Issue.record("a message of 4 GiB was begun") }
    }

    // MARK: Shared memory

    @Test("Places of profiles do not overlap, are used again, and are only released once")
    func places() throws {
        let memory = try ProfileMemory()
        let profile = try ReceivedProfile.sample()
        let places = try (0..<10).map { _ in try memory.write(profile) }
        for (one, next) in zip(places, places.dropFirst()) { #expect(one.offset + one.count == next.offset) }
        memory.release(places[3])
        memory.release(places[3])
        memory.release(SharedPlace(offset: places[4].offset, count: 1))
        #expect(try memory.write(profile) == places[3])
        #expect(memory.byteCount == 10 * places[0].count)
        let bytes = try memory.file.read(places[5].count, at: places[5].offset)
        let copy = try #require(
            bytes.withUnsafeBytes { ReceivedProfile.decode(ByteBuffer(borrowing: $0) {}, at: 0, sequence: 9) })
        #expect(copy.encodedHead == profile.encodedHead && copy.encodedByteCount == profile.encodedByteCount)
    }

    // MARK: Starting again

    @Test("The pause before the next start doubles from 100 ms to 30 s, and begins anew after a life of a minute")
    func pauses() {
        var ends = ProcessEnds()
        let end = PluginEnd(how: "it ended")
        #expect(
            (0..<11).map { _ in ends.add(end) }
                == [100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000].map { .milliseconds($0) })
        for _ in 0..<200 { _ = ends.add(end) }
        #expect(ends.add(end) == .seconds(30))
        #expect(ends.add(PluginEnd(how: "", age: .seconds(59))) == .seconds(30))
        #expect(ends.add(PluginEnd(how: "", age: .seconds(60))) == .milliseconds(100) && ends.add(end) == .milliseconds(200))
    }

    @Test("What was open at the end of a process goes back into the queue, and is a suspect; alone, it is counted", arguments: [1, 2])
    func openProfiles(count: Int) throws {
        var state = Receiver.State.working(limit: 4)
        let profiles = try (0..<count).map { _ in try ReceivedProfile.sample() }
        for profile in profiles { state.accept(profile, nil, state.config.queue, .at(10)) }
        while case .done(.deliver) = state.takeStep(of: 0, now: .at(10)) {}
        let (open, wait) = state.processEnded(0, PluginEnd(how: "it ended"), .at(10))
        #expect(open == count && wait == .milliseconds(100) && state.queuedCount == count)
        #expect(state.suspects.counts == Dictionary(uniqueKeysWithValues: profiles.map { ($0.sequence, count == 1 ? 1 : 0) }))
        #expect(state.health.0 == .failed && state.health.reason.contains("it ended"))
        guard case .again(let time) = state.takeStep(of: 0, now: .at(10)), case .done(.restart) = state.takeStep(of: 0, now: .at(11)) else {
            Issue.record("the process is not started again after its pause")
            return
        }
        #expect(time == .at(10) + .milliseconds(100))
        state.instances[0]?.started()
        guard case .done(.deliver) = state.takeStep(of: 0, now: .at(11)) else {
            Issue.record("nothing is delivered again")
            return
        }
    }
}
