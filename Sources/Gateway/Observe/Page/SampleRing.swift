import LinuxSystem

/// What the gateway had counted at one moment, all listeners and receivers together.
struct Sample: Sendable {
    var at = MonotonicTime(nanoseconds: 0)
    var profiles = 0
    var bytes = 0
    var delivered = 0
    /// Profiles that were dropped or became dead letters.
    var failed = 0
    var queued = 0
    var memory = 0
}

/// The samples of the last 15 minutes. Its memory is taken once.
struct SampleRing: Sendable {
    static let interval = Duration.seconds(5)
    /// One more than the intervals of 15 minutes.
    static let size = 181

    private var samples = [Sample](repeating: Sample(), count: size)
    private var next = 0
    private(set) var count = 0

    mutating func add(_ sample: Sample) {
        samples[next] = sample
        next = (next + 1) % Self.size
        count = min(count + 1, Self.size)
    }

    /// The samples, the oldest first.
    var inOrder: [Sample] { count < Self.size ? Array(samples[..<count]) : Array(samples[next...] + samples[..<next]) }

    /// The newest sample; nil before the first.
    var last: Sample? { count == 0 ? nil : samples[(next + Self.size - 1) % Self.size] }
}

/// What was counted of each listener and receiver at one moment, to compute present rates from.
struct Marks: Sendable {
    struct Counts: Sendable {
        var profiles = 0
        var bytes = 0
        var calls = 0
        var seconds = 0.0
    }

    var at: MonotonicTime
    var listeners: [String: Counts] = [:]
    var receivers: [String: Counts] = [:]
}
