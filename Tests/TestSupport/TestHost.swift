import Foundation
import PluginABI

/// A host for tests: the `gw_host` of one instance, and all calls that the instance made.
///
/// `@unchecked`: the table is written once.
final class TestHost: @unchecked Sendable {
    struct Finish: Sendable, Equatable {
        let token: UInt
        let status: gw_status
        let retryAfter: Duration
        let progress: UInt64
        let httpStatus: UInt32
        let reason: String
        let senderMessage: String
    }

    struct Metric: Sendable, Equatable {
        let kind: gw_metric_kind
        let name: String
        let labels: [String: String]
        var value: Int64 = 0
    }

    /// All that the instance has reported.
    struct Said: Sendable {
        var finishes: [Finish] = []
        var logs: [String] = []
        var healths: [(health: gw_health, reason: String)] = []
        var metrics: [Metric] = []
        var lastToken: UInt = 0
        /// The answer of `gw.descriptors/1`.
        var descriptorShare: UInt32 = 0
        /// How often the instance has been refused a loop.
        var loopsRefused = 0
        /// Profiles that may not be accessed once their token is finished.
        var forbidden: [UInt: TestProfile] = [:]
    }

    /// How often each profile is retained; `retain` and `release` have no context.
    static let retained = WaitableValue<[UInt: Int]>([:])

    let said = WaitableValue(Said())
    let table: UnsafeMutablePointer<gw_host>

    /// This table is constant and never freed.
    private static let descriptors: UInt = {
        let table = UnsafeMutablePointer<gw_descriptors>.allocate(capacity: 1)
        table.initialize(
            to: gw_descriptors(
                size: MemoryLayout<gw_descriptors>.size,
                share: { context in TestHost.at(context)?.said.current.descriptorShare ?? 0 }))
        return UInt(bitPattern: table)
    }()

    /// The parts of `gw.loop/1` and `gw.timer/1` that the host has.
    enum Loop {
        case none
        /// The first version of `gw.loop/1`, without `after_ready`.
        case old
        /// `gw.loop/1` without `gw.timer/1`.
        case withoutTimers
        /// Both, but there are no descriptors for a loop.
        case exhausted
    }

    private let loop: Loop

    /// These tables are constant and never freed.
    private static func loopTable(isWhole: Bool) -> UInt {
        let table = UnsafeMutablePointer<gw_loop>.allocate(capacity: 1)
        let size = isWhole ? MemoryLayout<gw_loop>.size : MemoryLayout<gw_loop>.offset(of: \.after_ready)
        table.initialize(
            to: gw_loop(
                size: size ?? 0, watch: { _, _, _, _, _ in EMFILE },
                after_ready: { context, _, _ in
                    TestHost.at(context)?.said.update { $0.loopsRefused += 1 }
                    return EMFILE
                }))
        return UInt(bitPattern: table)
    }
    private static let (wholeLoop, oldLoop) = (loopTable(isWhole: true), loopTable(isWhole: false))
    private static let timers: UInt = {
        let table = UnsafeMutablePointer<gw_timer>.allocate(capacity: 1)
        table.initialize(to: gw_timer(size: MemoryLayout<gw_timer>.size, set: { _, _, _, _, _ in 0 }))
        return UInt(bitPattern: table)
    }()

    /// The table of an extension that the host has.
    private func found(_ name: String) -> UInt? {
        switch name {
        case GW_DESCRIPTORS_EXTENSION: said.current.descriptorShare == 0 ? nil : Self.descriptors
        case GW_LOOP_EXTENSION: loop == .none ? nil : loop == .old ? Self.oldLoop : Self.wholeLoop
        case GW_TIMER_EXTENSION: [.none, .withoutTimers].contains(loop) ? nil : Self.timers
        default: nil
        }
    }

    /// - Parameter descriptorShare: how many descriptors the instance may hold; nil means that the host has no such extension.
    init(descriptorShare: UInt32? = nil, loop: Loop = .none) {
        self.loop = loop
        table = .allocate(capacity: 1)
        let context = Unmanaged.passUnretained(self).toOpaque()
        table.initialize(
            to: gw_host(
                size: MemoryLayout<gw_host>.size, context: context,
                finish: { context, token, outcome in
                    TestHost.at(context)?.finish(UInt(bitPattern: token), outcome.pointee)
                },
                retain: { profile in TestHost.retained.update { $0[UInt(bitPattern: profile), default: 0] += 1 } },
                release: { profile in TestHost.retained.update { $0[UInt(bitPattern: profile), default: 0] -= 1 } },
                log: { context, _, message in
                    let text = message.text
                    TestHost.at(context)?.said.update { $0.logs.append(text) }
                },
                set_health: { context, health, reason in
                    let text = reason.text
                    TestHost.at(context)?.said.update { $0.healths.append((health, text)) }
                },
                metric: { context, kind, name, _, labels, count in
                    let pairs = UnsafeBufferPointer(start: labels, count: count).map { ($0.name.text, $0.value.text) }
                    let metric = Metric(kind: kind, name: name.text, labels: Dictionary(uniqueKeysWithValues: pairs))
                    return TestHost.at(context)?.declare(metric) ?? 0
                },
                observe: { context, id, value in
                    TestHost.at(context)?.said.update { said in
                        let isGauge = said.metrics[Int(id) - 1].kind == .gauge
                        said.metrics[Int(id) - 1].value = (isGauge ? 0 : said.metrics[Int(id) - 1].value) + value
                    }
                },
                extension: { context, id in
                    TestHost.at(context)?.found(String(cString: id)).flatMap { UnsafeRawPointer(bitPattern: $0) }
                }))
        said.update { $0.descriptorShare = descriptorShare ?? 0 }
    }

    deinit { table.deallocate() }

    /// The host of a context.
    private static func at(_ context: UnsafeMutableRawPointer?) -> TestHost? {
        context.map { Unmanaged<TestHost>.fromOpaque($0).takeUnretainedValue() }
    }

    private func finish(_ token: UInt, _ outcome: gw_outcome) {
        let finish = Finish(
            token: token, status: outcome.status, retryAfter: .nanoseconds(outcome.retry_after_ns), progress: outcome.progress,
            httpStatus: outcome.http_status, reason: outcome.reason.text, senderMessage: outcome.sender_message.text)
        said.update { said in
            said.forbidden[token]?.forbidUse()
            said.finishes.append(finish)
        }
    }

    /// Registers a metric, and returns its ID.
    private func declare(_ metric: Metric) -> UInt32 {
        said.update { said in
            if let index = said.metrics.firstIndex(where: { $0.name == metric.name && $0.labels == metric.labels }) {
                return UInt32(index + 1)
            }
            said.metrics.append(metric)
            return UInt32(said.metrics.count)
        }
    }

    // MARK: Results

    func newToken() -> UInt {
        said.update { said in
            said.lastToken += 1
            return said.lastToken
        }
    }

    /// Waits until the operation is finished.
    func outcome(of token: UInt) throws -> Finish {
        try said.wait(for: "the finish of operation \(token)") { said in said.finishes.first { $0.token == token } }
    }

    /// Waits until the instance reports a health that `matches`, and returns the reason.
    func health(_ what: String, after count: Int = 0, _ matches: (gw_health) -> Bool) throws -> String {
        try said.wait(for: "health \(what)") { said in said.healths.dropFirst(count).first { matches($0.health) }?.reason }
    }

    /// Waits until a metric has a value.
    func wait(for name: String, _ labels: [String: String] = [:], toBe value: Int64) throws {
        try said.wait(for: "\(name) to be \(value)") { said in
            said.metrics.first { $0.name == name && $0.labels == labels }?.value == value ? true : nil
        }
    }

    func value(_ name: String, _ labels: [String: String]) -> Int64? {
        said.current.metrics.first { $0.name == name && $0.labels == labels }?.value
    }
}

extension gw_slice {
    var text: String { String(decoding: UnsafeBufferPointer(start: bytes, count: count), as: UTF8.self) }
}
