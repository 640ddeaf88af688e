import LinuxSystem
import Profiles
import Telemetry

/// What the gateway and the process of a plugin tell each other.
///
/// On the socket each message is preceded by its length, as four bytes; the integers are little-endian.
enum PluginMessage {
    // To the plugin's process.
    case create(PluginStart)
    /// The profile is in the shared memory, encoded as in the spool.
    case deliver(token: UInt64, attempt: UInt32, progress: UInt64, sequence: UInt64, place: SharedPlace)
    case flush(token: UInt64)
    case abort
    case destroy
    case start
    case drain
    case probe(token: UInt64)
    // To the gateway.
    case created(PluginIdentity)
    /// The plugin is not loaded, for this reason.
    case notLoaded(String)
    /// What `start` has answered: empty, or why the plugin cannot work yet.
    case started(String)
    /// `create` has refused the config.
    case refused(String)
    case finished(token: UInt64, DeliveryOutcome)
    /// The plugin no longer uses the profile at this place.
    case released(SharedPlace)
    case health(Health, String)
    case log(Log.Level, String)
    case breach(PluginBreach)
    /// The plugin has declared a metric, which got this id in its process.
    case metric(id: UInt32, kind: UInt32, name: String, help: String, labels: [MetricLabel])
    case observed(id: UInt32, Int64)

    /// The most bytes of a message to the gateway: a metric has up to 64 labels with two texts of 4 KiB each.
    static let longestToGateway = 1 << 20
    /// The most bytes of a message to a plugin's process, which has its config.
    static let longestToPlugin = 256 << 20
}

/// A range of the memory that the gateway shares with a plugin's process.
struct SharedPlace: Hashable, Sendable {
    let offset: Int
    let count: Int
}

/// What a plugin's process needs to make the instance.
struct PluginStart: Sendable {
    let receiver: String
    let path: String
    let sha256: String
    /// The plugin's config as JSON; empty when the plugin is only to tell what it is.
    let config: String
    /// The paths of the strings in it that were a reference to an environment variable each.
    let references: [String]
    let files: Int
    let user: SystemUser?
    let hasLowPriority: Bool
    /// The values of `gw.instance/1`.
    let gatewayVersion: String
    let directory: String
    let maxInFlight: Int
    let deliveryTimeout: Duration
}

extension PluginMessage {
    private enum Kind: UInt8 {
        case create = 1
        case deliver, flush, abort, destroy, created, notLoaded, refused, finished, released, health, log, breach, metric, observed
        case start, drain, started, probe
    }

    private var kind: Kind {
        switch self {
        case .create: .create
        case .deliver: .deliver
        case .flush: .flush
        case .abort: .abort
        case .destroy: .destroy
        case .start: .start
        case .drain: .drain
        case .probe: .probe
        case .created: .created
        case .started: .started
        case .notLoaded: .notLoaded
        case .refused: .refused
        case .finished: .finished
        case .released: .released
        case .health: .health
        case .log: .log
        case .breach: .breach
        case .metric: .metric
        case .observed: .observed
        }
    }

    /// Adds the message and its length.
    func encode(into writer: inout LittleEndianWriter) {
        let start = writer.bytes.count
        writer.add(UInt32(0))
        writer.add(kind.rawValue)
        encodeContent(into: &writer)
        writer.set(UInt32(clamping: writer.bytes.count - start - 4), at: start)
    }

    private func encodeContent(into writer: inout LittleEndianWriter) {
        switch self {
        case .abort, .destroy, .start, .drain: break
        case .create(let start): writer.add(start)
        case .deliver(let token, let attempt, let progress, let sequence, let place):
            writer.add(token)
            writer.add(attempt)
            writer.add(progress)
            writer.add(sequence)
            writer.add(place)
        case .flush(let token), .probe(let token): writer.add(token)
        case .created(let identity):
            writer.add([identity.name, identity.version, identity.interface, identity.sha256, identity.configSchema])
            writer.add(UInt8(identity.later.start ? 1 : 0) | UInt8(identity.later.drain ? 2 : 0) | UInt8(identity.later.probe ? 4 : 0))
        case .notLoaded(let reason), .refused(let reason), .started(let reason): writer.add(reason)
        case .finished(let token, let outcome):
            writer.add(token)
            writer.add(outcome)
        case .released(let place): writer.add(place)
        case .health(let health, let reason): writer.add([health.rawValue, reason])
        case .log(let level, let message): writer.add([level.rawValue, message])
        case .breach(let breach): writer.add([breach.kind.rawValue, breach.what])
        case .metric(let id, let kind, let name, let help, let labels):
            writer.add(id)
            writer.add(kind)
            writer.add([name, help])
            writer.add(UInt32(labels.count))
            writer.add(labels.flatMap { [$0.name, $0.value] })
        case .observed(let id, let value):
            writer.add(id)
            writer.add(value)
        }
    }

    /// Decodes a message, without its length; nil when the bytes are none.
    init?(_ bytes: UnsafeRawBufferPointer) {
        var reader = unsafe LittleEndianReader(bytes)
        guard let kind = reader.integer(UInt8.self).flatMap(Kind.init), let message = Self.decode(kind, &reader), reader.left == 0 else {
            return nil
        }
        self = message
    }

    private static func decode(_ kind: Kind, _ reader: inout LittleEndianReader) -> PluginMessage? {
        switch kind {
        case .create: return PluginStart(&reader).map { .create($0) }
        case .deliver:
            guard let token = reader.integer(UInt64.self), let attempt = reader.integer(UInt32.self),
                let progress = reader.integer(UInt64.self), let sequence = reader.integer(UInt64.self), let place = SharedPlace(&reader)
            else { return nil }
            return .deliver(token: token, attempt: attempt, progress: progress, sequence: sequence, place: place)
        case .flush: return reader.integer(UInt64.self).map { .flush(token: $0) }
        case .abort: return .abort
        case .destroy: return .destroy
        case .start: return .start
        case .drain: return .drain
        case .probe: return reader.integer(UInt64.self).map { .probe(token: $0) }
        case .started: return reader.text().map { .started($0) }
        case .created: return PluginIdentity(&reader).map { .created($0) }
        case .notLoaded: return reader.text().map { .notLoaded($0) }
        case .refused: return reader.text().map { .refused($0) }
        case .finished:
            guard let token = reader.integer(UInt64.self), let outcome = DeliveryOutcome(&reader) else { return nil }
            return .finished(token: token, outcome)
        case .released: return SharedPlace(&reader).map { .released($0) }
        case .health:
            guard let health = reader.text().flatMap(Health.init), let reason = reader.text() else { return nil }
            return .health(health, reason)
        case .log:
            guard let level = reader.text().flatMap(Log.Level.init), let message = reader.text() else { return nil }
            return .log(level, message)
        case .breach:
            guard let kind = reader.text().flatMap(PluginBreach.Kind.init), let what = reader.text() else { return nil }
            return .breach(PluginBreach(kind, what))
        case .metric:
            guard let id = reader.integer(UInt32.self), let kind = reader.integer(UInt32.self), let name = reader.text(),
                let help = reader.text(), let labels = labels(&reader)
            else { return nil }
            return .metric(id: id, kind: kind, name: name, help: help, labels: labels)
        case .observed:
            guard let id = reader.integer(UInt32.self), let value = reader.integer(Int64.self) else { return nil }
            return .observed(id: id, value)
        }
    }

    private static func labels(_ reader: inout LittleEndianReader) -> [MetricLabel]? {
        guard let count = reader.integer(UInt32.self), count <= HostServices.mostLabels else { return nil }
        var labels: [MetricLabel] = []
        for _ in 0..<count {
            guard let name = reader.text(), let value = reader.text() else { return nil }
            labels.append(MetricLabel(name: name, value: value))
        }
        return labels
    }
}

extension LittleEndianWriter {
    fileprivate mutating func add(_ texts: [String]) { for text in texts { add(text) } }

    fileprivate mutating func add(_ start: PluginStart) {
        add([start.receiver, start.path, start.sha256, start.config, start.references.joined(separator: "\n")])
        add(UInt32(clamping: start.files))
        add(start.user?.id ?? .max)
        add(start.user?.group ?? .max)
        add(UInt8(start.hasLowPriority ? 1 : 0))
        add([start.gatewayVersion, start.directory])
        add(UInt32(clamping: start.maxInFlight))
        add(start.deliveryTimeout.inNanoseconds)
    }

    fileprivate mutating func add(_ place: SharedPlace) {
        add(UInt64(place.offset))
        add(UInt64(place.count))
    }

    fileprivate mutating func add(_ outcome: DeliveryOutcome) {
        add(outcome.status.rawValue)
        add(outcome.retryAfter.inNanoseconds)
        add(outcome.progress)
        add(UInt32(clamping: outcome.httpStatus))
        add(outcome.reason)
        add(outcome.senderMessage)
    }
}

extension SharedPlace {
    fileprivate init?(_ reader: inout LittleEndianReader) {
        guard let offset = reader.integer(UInt64.self).flatMap({ Int(exactly: $0) }),
            let count = reader.integer(UInt64.self).flatMap({ Int(exactly: $0) })
        else { return nil }
        (self.offset, self.count) = (offset, count)
    }
}

extension DeliveryOutcome {
    fileprivate init?(_ reader: inout LittleEndianReader) {
        guard let status = reader.integer(UInt8.self).flatMap(Status.init), let retryAfter = reader.integer(Int64.self), retryAfter >= 0,
            let progress = reader.integer(UInt64.self), let httpStatus = reader.integer(UInt32.self), let reason = reader.text(),
            let message = reader.text()
        else { return nil }
        self.init(
            status: status, retryAfter: .nanoseconds(retryAfter), progress: progress, httpStatus: Int(httpStatus), reason: reason,
            senderMessage: message)
    }
}

extension PluginIdentity {
    fileprivate init?(_ reader: inout LittleEndianReader) {
        guard let name = reader.text(), let version = reader.text(), let interface = reader.text(), let sha256 = reader.text(),
            let schema = reader.text(), let later = reader.integer(UInt8.self), later < 8
        else { return nil }
        let functions = PluginIdentity.LaterFunctions(start: later & 1 != 0, drain: later & 2 != 0, probe: later & 4 != 0)
        self.init(name: name, version: version, interface: interface, sha256: sha256, later: functions, configSchema: schema)
    }
}

extension PluginStart {
    init?(_ reader: inout LittleEndianReader) {
        guard let receiver = reader.text(), let path = reader.text(), let sha256 = reader.text(), let config = reader.text(),
            let references = reader.text(), let files = reader.integer(UInt32.self), let user = reader.integer(UInt32.self),
            let group = reader.integer(UInt32.self), let priority = reader.integer(UInt8.self), let version = reader.text(),
            let directory = reader.text(), let maxInFlight = reader.integer(UInt32.self), let timeout = reader.integer(Int64.self)
        else { return nil }
        hasLowPriority = priority != 0
        (gatewayVersion, self.directory) = (version, directory)
        (self.maxInFlight, deliveryTimeout) = (Int(maxInFlight), .nanoseconds(timeout))
        (self.receiver, self.path, self.sha256, self.config, self.files) = (receiver, path, sha256, config, Int(files))
        self.references = references.split(separator: "\n").map(String.init)
        self.user = user == .max ? nil : SystemUser(id: user, group: group)
    }
}
