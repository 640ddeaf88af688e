import ConfigJSON

/// A plugin whose deliveries are finished when the call returns, so that none can stay open.
public protocol SynchronousReceiver: Plugin {
    /// Delivers one profile, which is valid until this returns.
    ///
    /// - Returns: the outcome.
    /// - Throws: an ``Outcome``, or any other error, which means a retry with the error's text as the reason.
    func deliver(_ profile: Profile, attempt: Attempt) throws -> Outcome

    /// Makes all profiles delivered before durable.
    ///
    /// - Throws: as ``deliver(_:attempt:)``.
    func flush() throws -> Outcome

    /// Makes a ``deliver(_:attempt:)`` that is at work return within a second; called from another thread, and
    /// again on the receiver's own once that call has returned.
    func abort()
}

extension SynchronousReceiver {
    /// Does nothing, for a plugin whose finished deliveries are already durable.
    public func flush() throws -> Outcome { .delivered }
    /// Does nothing, for a plugin whose deliveries end by themselves within a second. No other delivery can be open.
    public func abort() {}
}

/// Makes a ``SynchronousReceiver`` a ``Receiver``.
final class SynchronousCalls<Sink: SynchronousReceiver>: Receiver {
    static var name: String { Sink.name }
    static var version: String { Sink.version }
    static var configSchema: String { Sink.configSchema }

    private let sink: Sink

    init(config: ConfigObject, host: GatewayHost) throws { sink = try Sink(config: config, host: host) }

    func start() throws { try sink.start() }

    func deliver(_ profile: Profile, _ delivery: consuming Delivery) {
        let attempt = Attempt(number: delivery.attempt, progress: delivery.progress)
        delivery.finish(outcome { try sink.deliver(profile, attempt: attempt) })
    }

    func flush(_ flush: consuming Delivery) { flush.finish(outcome { try sink.flush() }) }

    func abort() { sink.abort() }

    func close() { sink.close() }

    private func outcome(_ body: () throws -> Outcome) -> Outcome {
        do { return try body() } catch { return Outcome(error) }
    }
}

extension SynchronousCalls: Probing where Sink: Probing {
    func probe(_ probe: consuming Delivery) { sink.probe(probe) }
}
