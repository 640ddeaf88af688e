import Foundation
import LinuxSystem
import Testing

@testable import PluginHost
@testable import Profiles
@testable import Receivers
@testable import SpoolStore
@testable import TestSupport

/// A spool in a folder of its own, and receivers without plugins that the test delivers for.
final class SpoolFixture {
    /// The path of the data directory.
    let folder: String
    private(set) var spool: Spool?
    private(set) var receivers: [Receiver] = []
    private let isKept: Bool
    private var config: SpoolConfig
    private let configs: [ReceiverConfig]
    /// How far the receivers' clock is ahead.
    var ahead = Duration.zero
    /// How far the wall clock was set since the start, in nanoseconds.
    let step = WaitableValue<Int64>(0)

    /// - Parameter folder: the folder of an earlier process, which is kept; nil makes a new one, which is removed at the end.
    convenience init(
        _ configs: ReceiverConfig..., spool config: SpoolConfig = SpoolConfig(minFreeBytes: 0, segmentBytes: 64 << 10),
        copyDelay: Duration = .zero, in folder: String? = nil
    ) throws { try self.init(configs, spool: config, copyDelay: copyDelay, in: folder) }

    init(
        _ configs: [ReceiverConfig], spool config: SpoolConfig = SpoolConfig(minFreeBytes: 0, segmentBytes: 64 << 10),
        copyDelay: Duration = .zero, in folder: String? = nil
    ) throws {
        (self.config, self.configs, isKept) = (config, configs, folder != nil)
        self.config.copyDelay = copyDelay
        self.folder = folder ?? NSTemporaryDirectory() + "gateway-spool-" + UUID().uuidString
        try open(configs)
    }

    deinit {
        close()
        if !isKept { try? FileManager.default.removeItem(atPath: folder) }
    }

    static func receiver(_ name: String, _ queue: QueueConfig = QueueConfig(storage: .disk, maxBytes: 1 << 30)) -> ReceiverConfig {
        ReceiverConfig(name: name, queue: queue)
    }

    /// A receiver with a serving instance, whose plugin is replaced by the test.
    static func makeReceiver(_ config: ReceiverConfig, _ spool: Spool?) -> Receiver {
        let receiver = Receiver(config, spool: spool)
        receiver.state.withLock { state in
            state.makeInstance(0, limit: config.maxInFlight)
            state.serve(0)
        }
        return receiver
    }

    private func open(_ configs: [ReceiverConfig]) throws {
        let clock = SpoolClock { [step] in MonotonicTime.unixNanoseconds + step.current }
        let spool = try Spool(DataDirectory(folder), config, pendingLimit: 1 << 30, clock: clock)
        self.spool = spool
        receivers = configs.map { Self.makeReceiver($0, spool) }
        for receiver in receivers { receiver.attach() }
        try spool.start()
    }

    /// Closes the spool and opens it again like a restart, with other receivers or another config if they are given.
    func restart(_ configs: [ReceiverConfig]? = nil, spool: SpoolConfig? = nil, _ change: () throws -> Void = {}) throws {
        close()
        let copyDelay = config.copyDelay
        config = spool ?? config
        config.copyDelay = copyDelay
        try change()
        try open(configs ?? self.configs)
    }

    /// Closes the spool and releases its lock.
    func close() {
        for receiver in receivers { receiver.detach() }
        spool?.stop()
        (spool, receivers) = (nil, [])
    }

    /// Submits profiles with bodies of `size`, one request each, and waits until they are stored.
    ///
    /// - Returns: the result of each, followed by the refusals that came later.
    @discardableResult
    func submit(
        _ count: Int = 1, body size: Int = 100, share: ShareKey = .unknown, to targets: [Int]? = nil
    ) throws -> [FanOut.Submission] {
        let fanOut = FanOut(receivers: (targets ?? Array(receivers.indices)).map { receivers[$0] }, spool: spool)
        let refused = Refusals()
        let results = try (0..<count).map { _ in
            fanOut.submit([try .sample(body: size, share: share)], stored: { if let refusal = $0 { refused.add(refusal) } })
        }
        spool?.flush()
        return results.map { $0 == .pending ? .accepted : $0 } + refused.all.map { .refused($0) }
    }

    /// Opens up to `count` deliveries that are due at a receiver, and reads profiles that are not in memory.
    func open(_ count: Int = .max, at index: Int = 0) throws -> [Opened] {
        try open(receivers[index], count)
    }

    /// Opens deliveries at a receiver that is not one of the fixture's.
    func open(_ receiver: Receiver, _ count: Int = .max) throws -> [Opened] {
        var opened: [Opened] = []
        while opened.count < count {
            guard let step = pass(receiver) else { continue }
            guard case .done(.deliver(let entry, let handle, let token)) = step else { break }
            let reader = try #require(receiver.state.withLock { $0.backlog?.reader })
            let position = try #require(entry.position)
            do {
                let profile = try entry.profile ?? reader.read(position, sequence: entry.sequence)
                let isWanted = receiver.state.withLock { $0.loaded(profile, handle, token) }
                #expect(isWanted)
                opened.append(Opened(sequence: entry.sequence, token: token, profile: profile, entry: entry))
            } catch let failure as SpoolQueue.ReadFailure {
                receiver.state.withLock { state in
                    state.unreadable(handle, token, state.judge(failure, handle, token), now: .now)
                }
            }
        }
        return opened
    }

    /// Takes the next step of a receiver's thread; nil when that was a read, which is done then.
    func pass(_ receiver: Receiver) -> WaitStep<Receiver.Step>? {
        let step = receiver.state.withLock { $0.nextStep($0.config, now: .now + ahead) }
        guard case .done(.read(var read)) = step else { return step }
        read.run()
        receiver.state.withLock { $0.refilled(read, now: .now + ahead) }
        return nil
    }

    /// An open delivery.
    struct Opened {
        let sequence: UInt64
        let token: UInt
        let profile: ReceivedProfile
        let entry: ReceiverQueue.Attempt
    }

    /// Settles deliveries at a receiver, and waits until the spool has noted that.
    func settle(_ opened: [Opened], _ outcome: DeliveryOutcome = DeliveryOutcome(status: .delivered), at index: Int = 0) {
        for delivery in opened { receivers[index].finish(delivery.token, outcome) }
        // The second round releases what the notes of the first one have settled.
        spool?.flush()
        spool?.flush()
    }

    /// Delivers everything that waits at a receiver.
    ///
    /// - Returns: the sequences, in order.
    @discardableResult
    func deliverAll(at index: Int = 0) throws -> [UInt64] {
        var sequences: [UInt64] = []
        while case let opened = try open(32, at: index), !opened.isEmpty {
            settle(opened, at: index)
            sequences += opened.map(\.sequence)
        }
        return sequences
    }

    func account(_ index: Int = 0) -> ReceiverAccount { receivers[index].state.withLock { $0.account } }
    func queued(_ index: Int = 0) -> Int { receivers[index].state.withLock { $0.queuedCount } }

    /// True when all profiles are accounted for.
    func isBalanced(_ index: Int = 0) -> Bool {
        let account = account(index)
        let known = account.delivered + queued(index) + account.dropped.values.reduce(0, +) + account.deadLettered
        return account.accepted + account.recovered == known
    }

    /// Waits until the spool's thread has made the test true.
    func wait(for test: @escaping (Spool.State) -> Bool) throws {
        let limit = MonotonicTime.now + .seconds(60)
        try #require(try #require(spool).state.wait(until: limit, for: test))
    }

    /// The files of the spool, sorted.
    var files: [String] { ((try? FileManager.default.contentsOfDirectory(atPath: folder + "/spool")) ?? []).sorted() }
    var segments: [String] { files.filter { $0.hasSuffix(".records") } }

    func path(_ file: String) -> String { "\(folder)/spool/\(file)" }
}

/// Collects refusals that come after the submission.
private final class Refusals: Sendable {
    private let list = Monitor<[FanOut.Refusal]>([])
    func add(_ refusal: FanOut.Refusal) { list.withLock { $0.append(refusal) } }
    var all: [FanOut.Refusal] { list.withLock { $0 } }
}
