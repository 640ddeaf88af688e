import ConfigJSON
import Glibc
import LinuxSystem
import PluginHost
import Receivers
import SpoolStore
import Telemetry

extension ReceiverConfig {
    init(_ name: String, _ object: ConfigObject, hasSpool: Bool) {
        self.init(name: name)
        pluginConfig = JSONValue(.object([]), at: object.position)
        pluginPosition = object.value("plugin")?.position ?? object.position
        plugin = object.string("plugin") ?? ""
        if object.lacks("plugin", "a string") { object.refuse("plugin", "is required: a plugin's name or a path ending in .so") }
        pluginHash = object.string("sha256")?.lowercased()
        if let hash = pluginHash, hash.utf8.count != 64 || !hash.utf8.allSatisfy({ 48...57 ~= $0 || 97...102 ~= $0 }) {
            object.refuse("sha256", "must be 64 hexadecimal digits, as sha256sum writes them")
        }
        if let config = object.value("config") {
            if case .object = config.content {} else { object.refuse("config", "must be an object, is \(config.kind)") }
            pluginConfig = config
        }
        required = object.bool("required", default: required)
        requiredAtStart = object.bool("required_at_start", default: requiredAtStart)
        queue.setStorage(hasSpool ? .disk : .memory)
        if let queue = object.object("queue") { self.queue = QueueConfig(queue, hasSpool: hasSpool) }
        if let retry = object.object("retry") { self.retry = RetryPolicy(retry, defaults: self.retry) }
        maxInFlight = object.integer("max_in_flight", in: 1...65536, default: maxInFlight)
        deliveryTimeout = object.duration("delivery_timeout", default: deliveryTimeout)
        let isIsolated = object.choice("isolation", default: Isolation.none) == .process
        if let process = object.object("process") {
            if !isIsolated { object.refuse("process", "goes with isolation: \"process\"") }
            isolation = ProcessIsolation(process)
        }
        if isIsolated { isolation = isolation ?? ProcessIsolation() } else { isolation = nil }
        object.refuseUnknown()
    }

    private enum Isolation: String, CaseIterable { case none, process }
}

extension ProcessIsolation {
    fileprivate init(_ object: ConfigObject) {
        self.init()
        if object.value("memory") != nil {
            memory = object.size("memory", default: 0)
            if let memory, memory < Self.leastMemory { object.refuse("memory", "must be at least 16MiB, is \(memory) bytes") }
        }
        files = object.integer("files", in: 32...65_536, default: files)
        if let name = object.string("user") {
            user = SystemUser(named: name)
            if user == nil { object.refuse("user", "there is no user \(quotedForPeople(name))") }
            if user != nil, geteuid() != 0 { object.refuse("user", "needs a gateway that runs as root") }
        }
        object.refuseUnknown()
    }

    /// Less than this is in use before a plugin does anything.
    private static let leastMemory = 16 << 20
}

extension QueueConfig {
    fileprivate mutating func setStorage(_ storage: Storage) {
        self.storage = storage
        maxBytes = storage == .disk ? 1 << 30 : 64 << 20
    }

    fileprivate init(_ object: ConfigObject, hasSpool: Bool) {
        self.init()
        setStorage(object.choice("storage", default: hasSpool ? .disk : .memory))
        if storage == .disk, !hasSpool { object.refuse("storage", "\"disk\" needs data_dir") }
        maxBytes = object.size("max_bytes", default: maxBytes)
        maxProfiles = object.integer("max_profiles", in: 1...Int(Int32.max), default: maxProfiles)
        if object.value("max_age") != nil { maxAge = object.duration("max_age", default: .seconds(3600)) }
        onFull = object.choice("on_full", default: onFull)
        object.refuseUnknown()
    }
}

extension RetryPolicy {
    fileprivate init(_ object: ConfigObject, defaults: RetryPolicy) {
        self = defaults
        minimum = object.duration("min_backoff_period", default: defaults.minimum)
        maximum = object.duration("max_backoff_period", default: defaults.maximum)
        retries = object.integer("max_backoff_retries", in: 0...Int.max, default: defaults.retries)
        longestRetryAfter = object.duration("max_retry_after", default: defaults.longestRetryAfter)
        refusalsUntilRejected = object.integer("reject_after_refusals", in: 0...Int.max, default: defaults.refusalsUntilRejected)
        refusedFor = object.duration("reject_after_period", default: defaults.refusedFor)
        if maximum < minimum { object.refuse("max_backoff_period", "must not be shorter than min_backoff_period") }
        object.refuseUnknown()
    }
}
