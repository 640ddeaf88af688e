import LinuxSystem
import Synchronization
import Testing

@testable import PluginHost
@testable import Profiles
@testable import Receivers
@testable import SpoolStore
@testable import Telemetry
@testable import TestSupport

@Suite("Reserving room in queues that reject")
final class ReservationTests {
    private var state = Receiver.State.working(limit: 4)
    private var bounds = QueueConfig(onFull: .reject)

    private func reserve(_ profiles: [ReceivedProfile]) -> Bool { state.reserve(profiles.map(\.byteCount), bounds) }

    private func release(_ profiles: [ReceivedProfile]) { state.release(profiles.map(\.byteCount), bounds) }

    private static func profiles(_ bodies: Int...) throws -> [ReceivedProfile] { try bodies.map { try .sample(body: $0) } }

    @Test("Room is reserved up to max_profiles, for all profiles of a request or none", arguments: [(2, true), (3, true), (4, false)])
    func profiles(count: Int, fits: Bool) throws {
        bounds.maxProfiles = 3
        #expect(reserve(try (0..<count).map { _ in try .sample() }) == fits)
        #expect(state.reserved.profiles == (fits ? count : 0))
    }

    @Test("Room is reserved up to max_bytes", arguments: [(-1, true), (0, true), (1, false)])
    func bytes(excess: Int, fits: Bool) throws {
        bounds.maxBytes = try 2 * (ReceivedProfile.emptyCost + 10)
        #expect(reserve(try Self.profiles(10, 10 + excess)) == fits)
    }

    @Test("Queued, open and reserved profiles count against the bounds")
    func counted() throws {
        bounds.maxProfiles = 3
        let config = ReceiverConfig(name: "r", queue: bounds)
        for _ in 0..<2 { state.accept(try .sample(), nil, bounds, .at(1)) }
        guard case .done(.deliver(_, _, let token)) = state.nextStep(config, now: .at(1)) else { throw NoDelivery() }
        let first = try Self.profiles(0)
        #expect(reserve(first))
        #expect(!reserve(try Self.profiles(0)), "one waits, one is open, one is promised")
        release(first)
        #expect(reserve(first), "a promise that was taken back is room again")
        #expect(state.finish(token, DeliveryOutcome(status: .delivered), config, .at(2)) != nil)
        #expect(reserve(try Self.profiles(0)), "what was delivered is room again")
    }

    private struct NoDelivery: Error {}

    @Test("A profile larger than max_bytes needs no room, because it is dropped when it comes")
    func tooLarge() throws {
        bounds.maxBytes = try ReceivedProfile.emptyCost
        let large = try Self.profiles(1)
        #expect(reserve(large))
        release(large)
        #expect(state.reserved == (0, 0))
        state.accept(large[0], nil, bounds, .at(1))
        #expect(state.account.dropped == [.tooLarge: 1])
    }

    @Test("A reservation for a profile that is too large takes no room from others")
    func tooLargeTakesNoRoom() throws {
        (bounds.maxBytes, bounds.maxProfiles) = (try ReceivedProfile.emptyCost, 1)
        #expect(reserve(try Self.profiles(1)))
        #expect(reserve(try Self.profiles(0)))
    }

    @Test("A full queue of a receiver that is not required drops and counts profiles", arguments: [(1, 0), (2, 0), (3, 1)])
    func notRequired(count: Int, dropped: Int) throws {
        bounds.maxProfiles = 2
        for _ in 0..<count { state.accept(try .sample(), nil, bounds, .at(1)) }
        #expect(state.account.dropped[.queueFull] ?? 0 == dropped)
        #expect(state.queue.count == count - dropped)
    }

    // MARK: Fan-out

    private static func receiver(_ name: String, onFull: OnFull = .reject, required: Bool = true) -> Receiver {
        Receiver(ReceiverConfig(name: name, required: required, queue: QueueConfig(maxProfiles: 2, onFull: onFull)))
    }

    /// The number of queued profiles of each receiver.
    private static func queued(_ receivers: [Receiver]) -> [Int] {
        receivers.map { receiver in receiver.state.withLock { $0.queue.count } }
    }

    @Test("When one receiver has no room, no receiver gets the profile and all reservations are released")
    func allOrNone() throws {
        let receivers = [Self.receiver("a"), Self.receiver("b", onFull: .dropOldest), Self.receiver("c"), Self.receiver("d")]
        #expect(FanOut(receivers: [receivers[2]]).submit(try Self.profiles(0)) == .accepted)
        let fanOut = FanOut(receivers: receivers)
        #expect(fanOut.submit(try Self.profiles(0, 0)) == .refused(.full(receiver: "c")))
        #expect(Self.queued(receivers) == [0, 0, 1, 0])
        #expect(fanOut.submit(try Self.profiles(0)) == .accepted)
        #expect(Self.queued(receivers) == [1, 1, 2, 1])
        for receiver in receivers { #expect(receiver.state.withLock { $0.reserved == (0, 0) }) }
    }

    @Test("A full receiver that is not required refuses no request")
    func optional() throws {
        let receivers = [Self.receiver("a", required: false), Self.receiver("b")]
        for _ in 0..<2 { #expect(FanOut(receivers: [receivers[0]]).submit(try Self.profiles(0)) == .accepted) }
        #expect(FanOut(receivers: receivers).submit(try Self.profiles(0)) == .accepted)
        #expect(Self.queued(receivers) == [2, 1])
        #expect(receivers[0].state.withLock { $0.account.dropped } == [.queueFull: 1])
    }

    @Test("A request without profiles, or without a required receiver, is answered at once")
    func nothingToWaitFor() throws {
        let answers = Mutex(0)
        let optional = Self.receiver("a", required: false)
        #expect(FanOut(receivers: [Self.receiver("b")]).submit([], answer: { _ in answers.withLock { $0 += 1 } }) == .accepted)
        #expect(FanOut(receivers: [optional]).submit(try Self.profiles(0), answer: { _ in answers.withLock { $0 += 1 } }) == .accepted)
        #expect(answers.withLock { $0 } == 2)
        #expect(Self.queued([optional]) == [1])
    }

    @Test("Room on disk is reserved for the whole record, including texts that the profiles of a request share")
    func sizeOnDisk() throws {
        let folder = try TestFolder()
        let receivers = ["up", "a receiver of a longer name"]
        var head = ProfileContent(
            api: .push, receivedAt: 1, tenant: "team", path: "/push.v1.PusherService/Push", query: "from=1", format: .pprof, samples: [])
        head.headers = [Label(name: "user-agent", value: String(repeating: "x", count: 3000))]
        let labels = LabelSet(sorted: [Label(name: "__name__", value: "cpu"), Label(name: "env", value: "prod")])
        let samples: [ProfileContent.Sample] = [
            .init(id: "first", range: 0..<7), .init(id: "", range: 7..<7), .init(id: "second", range: 7..<20),
        ]
        var body = ByteBuffer()
        try body.append([UInt8](repeating: 1, count: 20).span.bytes)
        let shared = ReceivedProfile(
            head.copy(labels: labels, samples: samples), body: body, sharing: ReceivedProfile(head, body: ByteBuffer()))
        let profiles = try [.sample(), .sample(body: 1), .sample(body: 5000), shared]
        let positions = try SpoolOnDisk(folder).store(profiles, for: receivers)
        #expect(profiles.map { SpoolRecord.headLength(receivers) + $0.encodedByteCount } == positions.map { Int($0.length) })
    }
}
