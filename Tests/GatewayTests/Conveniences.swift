import LinuxSystem
import PluginABI
import ProfileArchive

@testable import HTTPServer
@testable import Profiles
@testable import Receivers
@testable import SpoolStore

// Initializers with a parameter for each property, for values that the product makes with their defaults and then changes.

extension QueueConfig {
    init(
        storage: Storage = .memory, maxBytes: Int = 64 << 20, maxProfiles: Int = 100_000, maxAge: Duration? = nil,
        onFull: OnFull = .dropOldest
    ) {
        self.init()
        (self.storage, self.maxBytes, self.maxProfiles, self.maxAge, self.onFull) = (storage, maxBytes, maxProfiles, maxAge, onFull)
    }
}

extension ReceiverConfig {
    init(name: String, required: Bool = true, queue: QueueConfig = QueueConfig(), retry: RetryPolicy? = nil, maxInFlight: Int = 64) {
        self.init(name: name)
        (self.required, self.queue, self.maxInFlight) = (required, queue, maxInFlight)
        if let retry { self.retry = retry }
    }
}

extension DeadLetterConfig {
    init(maxBytes: Int = 1 << 30, maxAge: Duration = .seconds(604_800), modes: ArchiveModes = ArchiveModes()) {
        self.init()
        (self.maxBytes, self.maxAge, self.modes) = (maxBytes, maxAge, modes)
    }
}

extension HTTPConfig {
    init(
        address: String, port: UInt16, connLimit: Int, readTimeout: Duration, writeTimeout: Duration, idleTimeout: Duration,
        maximumConnectionAge: Duration
    ) {
        self.init(address: address, port: port, connLimit: connLimit)
        (self.readTimeout, self.writeTimeout, self.idleTimeout) = (readTimeout, writeTimeout, idleTimeout)
        self.maximumConnectionAge = maximumConnectionAge
    }
}

extension ProfileContent {
    init(
        api: gw_api, receivedAt: Int64, from: Int64 = 0, until: Int64 = 0, tenant: String = "", share: ShareKey = .unknown,
        labels: LabelSet = LabelSet(), path: String, query: String = "", format: ProfileFormat, contentType: String = "",
        contentEncoding: String = "", headers: [Label] = [], samples: [Sample]
    ) {
        self.init(api: api, receivedAt: receivedAt, path: path, format: format, samples: samples)
        (self.from, self.until, self.tenant, self.share, self.labels) = (from, until, tenant, share, labels)
        (self.query, self.contentType, self.contentEncoding, self.headers) = (query, contentType, contentEncoding, headers)
    }
}

/// A submitter that calls closures.
final class ClosureSubmitter: Submitter {
    typealias Answer = @Sendable (Acknowledgement.Failure?) -> Void
    typealias Stored = @Sendable (FanOut.Refusal?) -> Void

    private let answer: Answer
    private let onStored: Stored

    init(answer: @escaping Answer = { _ in }, stored: @escaping Stored = { _ in }) { (self.answer, onStored) = (answer, stored) }

    func stored(_ refusal: FanOut.Refusal?) { onStored(refusal) }
    func settled(_ failure: Acknowledgement.Failure?) { answer(failure) }
}

extension FanOut {
    /// Submits profiles, and calls `answer` once they are settled, where it is given, and `stored` once they are stored.
    @discardableResult
    func submit(
        _ profiles: [ReceivedProfile], answer: ClosureSubmitter.Answer? = nil, stored: @escaping ClosureSubmitter.Stored = { _ in }
    ) -> Submission {
        submit(profiles, for: ClosureSubmitter(answer: answer ?? { _ in }, stored: stored), waitsForDelivery: answer != nil)
    }
}

extension Acknowledgement {
    convenience init(profiles: Int, receivers: [String], answer: @escaping ClosureSubmitter.Answer) {
        self.init(profiles: profiles, receivers: receivers, for: ClosureSubmitter(answer: answer))
    }
}

extension Acknowledgement.Failure {
    /// The destination's status; 0 when it gave none.
    var status: Int { if case .failed(let status, _, _) = settlement { status } else { 0 } }
}
