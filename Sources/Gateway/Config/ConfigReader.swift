import ConfigJSON
import HTTPServer
import LinuxSystem
import ProfileAPI
import ProfileArchive
import Receivers
import SpoolStore
import Telemetry

extension Config {
    init(_ object: ConfigObject) {
        dataDirectory = object.string("data_dir")
        if object.lacks("data_dir", "a string"), dataDirectory != nil { object.refuse("data_dir", "must name a folder") }
        if let spool = object.object("spool") {
            self.spool = SpoolConfig(spool)
            if dataDirectory == nil { object.refuse("spool", "needs data_dir") }
        }
        if let value = object.value("admin") {
            if case .null = value.content { admin = nil } else { admin = object.object("admin").map(AdminConfig.init) }
        }
        if let log = object.object("log") { self.log = Log.Settings(log) }
        pluginDirs = object.strings("plugin_dirs") ?? []
        if let limits = object.object("limits") { self.limits = Limits(limits) }
        if let bounds = object.object("dead_letters") { deadLetters = DeadLetterConfig(bounds) }
        shutdownDelay = object.duration("shutdown_delay", default: shutdownDelay, zeroAllowed: true)
        shutdownTimeout = object.duration("shutdown_timeout", default: shutdownTimeout)
        loops = object.integer("loops", in: 1...RunningGateway.mostLoops, default: loops)
        let listeners = object.members(of: "receive_http")
        self.listeners = listeners.map { member in
            ListenerConfig(
                member.name, object.child(member, of: "receive_http"))
        }
        let receivers = object.members(of: "receivers")
        self.receivers = receivers.map { member in
            ReceiverConfig(
                member.name, object.child(member, of: "receivers"), hasSpool: dataDirectory != nil)
        }
        object.refuseUnknown()
        if object.lacks("receive_http", "an object") { object.refuse("receive_http", "must name at least one listener") }
        if object.lacks("receivers", "an object") { object.refuse("receivers", "must name at least one receiver") }
        checkNames(listeners, receivers, object.problems, object.warnings)
        checkAddresses(listeners, object)
    }

    private static let longestNameOnDisk = 512

    private func isOnDisk(_ name: String) -> Bool { receivers.contains { $0.name == name && $0.queue.storage == .disk } }

    /// Checks names: forwarding to an unknown receiver is an error, a receiver that no listener forwards to is a warning, and
    /// receivers on disk are bounded in number and in the length of their names.
    private func checkNames(
        _ listenerMembers: [JSONMember], _ receiverMembers: [JSONMember], _ problems: Problems, _ warnings: Problems
    ) {
        let known = receivers.map(\.name)
        for member in listenerMembers {
            let path = Problems.path(Problems.path("receive_http", member.name), "forward_to")
            guard case .object(let fields) = member.value.content,
                let value = fields.first(where: { $0.name == "forward_to" })?.value,
                case .array(let targets) = value.content
            else { continue }
            var seen: Set<String> = []
            for (index, target) in targets.enumerated() {
                guard case .string(let name) = target.content else { continue }
                if !known.contains(name) {
                    let hint = nearMiss(name, among: known).map { "; did you mean \($0)?" } ?? ""
                    problems.add("\(path)[\(index)]", "no receiver is named \(JSONValue.quoted(name))\(hint)", at: target.position)
                } else if !seen.insert(name).inserted {
                    problems.add("\(path)[\(index)]", "names \(JSONValue.quoted(name)) twice", at: target.position)
                }
            }
        }
        let used = Set(listeners.flatMap(\.forwardTo))
        for (index, member) in receiverMembers.filter({ isOnDisk($0.name) }).enumerated() {
            let path = Problems.path("receivers", member.name)
            if index == SpoolSegment.maximumReceivers {
                problems.add(path, "at most \(index) receivers can be on disk; \"storage\": \"memory\" takes one out", at: member.position)
            }
            if member.name.utf8.count > Self.longestNameOnDisk {
                problems.add(path, "a name on disk has at most \(Self.longestNameOnDisk) bytes", at: member.position)
            }
        }
        for member in receiverMembers where !used.contains(member.name) {
            warnings.add(Problems.path("receivers", member.name), "no listener forwards to it", at: member.position)
        }
    }
}

extension ConfigObject {
    /// True when a member that should be of `kind` is absent or empty; a member of a wrong kind is reported by its getter.
    func lacks(_ name: String, _ kind: String) -> Bool {
        guard let value = value(name) else { return true }
        return value.kind == kind && ["[]", "{}", "\"\""].contains(value.text)
    }

    func port(_ name: String, default fallback: UInt16) -> UInt16 {
        // A wrong port becomes 0, so that no other listener is reported to use the same one.
        UInt16(clamping: integer(name, in: 0...65535, default: value(name) == nil ? Int(fallback) : 0))
    }
}

extension AdminConfig {
    fileprivate init(_ object: ConfigObject) {
        http.readAddress(object)
        let names = object.strings("hosts") ?? []
        for name in names where !ListenAddress.isHostName(name) {
            object.refuse("hosts", "\(JSONValue.quoted(name)) is no name of a host; ports are not given, and IP addresses need not be")
        }
        // The host name in `listen_address` is accepted too.
        hosts = (names + [http.address]).map { ($0.hasSuffix(".") ? String($0.dropLast()) : $0).lowercased() }
        http.tls = object.object("tls").flatMap(TLSConfig.init)
        http.auth = object.object("auth").map { AuthConfig($0, tls: http.tls) }
        http.warnOfClearCredentials(object)
        if let bounds = object.object("recent") { recent = FanOut.Recent.Bounds(bounds) }
        recent.keepsBodies = object.bool("show_profiles", default: HostAddress.isLoopback(http.address))
        object.refuseUnknown()
    }
}

extension FanOut.Recent.Bounds {
    /// The page lists every kept profile.
    private static let mostProfiles = 10_000
    private static let mostBytes = 1 << 30

    fileprivate init(_ object: ConfigObject) {
        self.init()
        profiles = object.integer("profiles", in: 0...Self.mostProfiles, default: profiles)
        bytes = object.size("bytes", default: bytes, atMost: Self.mostBytes, zeroAllowed: true)
        object.refuseUnknown()
    }
}

extension Log.Settings {
    fileprivate init(_ object: ConfigObject) {
        self.init()
        level = object.choice("level", default: level)
        format = object.choice("format", default: format)
        object.refuseUnknown()
    }
}

extension Limits {
    /// zlib counts its input in 32 bits.
    private static let largestBody = 2 << 30

    fileprivate init(_ object: ConfigObject) {
        self.init()
        maxBodySize = object.size("max_body_size", default: maxBodySize, atMost: Self.largestBody)
        maxDecompressedSize = object.size("max_decompressed_size", default: maxDecompressedSize, atMost: Self.largestBody)
        maxInFlightBytes = object.size("max_in_flight_bytes", default: maxInFlightBytes)
        maxInFlightBytesPerSender = object.size(
            "max_in_flight_bytes_per_sender", default: max(1, maxInFlightBytes / 4), atMost: maxInFlightBytes)
        object.refuseUnknown()
    }
}

extension DeadLetterConfig {
    fileprivate init(_ object: ConfigObject) {
        self.init()
        maxBytes = object.size("max_bytes", default: maxBytes)
        maxAge = object.duration("max_age", default: maxAge)
        modes = ArchiveModes(object)
        object.refuseUnknown()
    }
}

extension ListenerConfig {
    fileprivate init(_ name: String, _ object: ConfigObject) {
        self.name = name
        if let http = object.object("http") { self.http = HTTPConfig(http) }
        if let kept = object.strings("keep_headers") {
            keepHeaders = []
            for name in kept.map({ $0.lowercased() }) where !keepHeaders.contains(name) { keepHeaders.append(name) }
            for header in kept where header.isEmpty || !header.utf8.allSatisfy(\.isTokenByte) {
                object.refuse("keep_headers", "\(JSONValue.quoted(header)) is no header name")
            }
        }
        refuseSecrets(object)
        pathPrefix = object.pathPrefix("path_prefix")
        health = object.bool("health", default: health)
        ack = object.choice("ack", default: ack)
        if let tls = object.object("tls") {
            if http.tls != nil { object.refuse("tls", "is given beside http.tls; one of them is meant") }
            http.tls = TLSConfig(tls)
        }
        http.auth = object.object("auth").map { AuthConfig($0, tls: http.tls) }
        http.warnOfClearCredentials(object)
        if let tenant = object.object("tenant") { self.tenant = TenantPolicy(tenant) }
        rateLimit = object.object("rate_limit").map(RateLimitConfig.init)
        dedupWindow = Self.dedupWindow(object)
        forwardTo = object.strings("forward_to") ?? []
        if object.lacks("forward_to", "an array") { object.refuse("forward_to", "must name at least one receiver") }
        object.refuseUnknown()
    }

    /// Refuses to keep headers with secrets, because kept headers are stored with each profile and sent on.
    private func refuseSecrets(_ object: ConfigObject) {
        guard !object.bool("keep_secrets", default: false) else { return }
        for header in keepHeaders where SecretHeader.matches(header) {
            object.refuse(
                "keep_headers",
                "\(JSONValue.quoted(header)) carries a secret, which receivers would store; \"keep_secrets\": true keeps it all the same")
        }
    }

    private static func dedupWindow(_ object: ConfigObject) -> Duration? {
        guard let value = object.value("dedup_window"), value.reference?.isResolved != false else { return nil }
        switch value.typedContent ?? value.content {
        case .bool(let isOn): return isOn ? .seconds(300) : nil
        case .string(let text):
            if let window = parseDuration(text), window > .zero { return window }
        default: break
        }
        object.refuse("dedup_window", "must be true, false or a duration such as \"5m\", longer than 0, is \(value.shown)")
        return nil
    }
}

extension HTTPConfig {
    fileprivate init(_ object: ConfigObject) {
        self.init()
        readAddress(object)
        connLimit = object.integer("conn_limit", in: 0...Int.max, default: connLimit)
        connLimitPerAddress = object.integer("conn_limit_per_address", in: 0...Int.max, default: connLimitPerAddress)
        readTimeout = object.duration("server_read_timeout", default: readTimeout)
        writeTimeout = object.duration("server_write_timeout", default: writeTimeout)
        minimumBodyRate = object.size("min_body_rate", default: minimumBodyRate, zeroAllowed: true)
        idleTimeout = object.duration("server_idle_timeout", default: idleTimeout)
        maximumConnectionAge = object.duration("max_connection_age", default: maximumConnectionAge, zeroAllowed: true)
        readProxies(object)
        // Alloy has `tls` here, beside the address.
        tls = object.object("tls").flatMap(TLSConfig.init)
        object.refuseUnknown()
    }
}

extension SpoolConfig {
    fileprivate init(_ object: ConfigObject) {
        self.init()
        if object.value("max_bytes") != nil { maxBytes = object.size("max_bytes", default: 0) }
        if object.value("min_free_bytes") != nil { minFreeBytes = object.size("min_free_bytes", default: 0, zeroAllowed: true) }
        sync = object.choice("sync", default: sync)
        syncInterval = object.duration("sync_interval", default: syncInterval)
        if object.value("sync_interval") != nil, sync != .interval { object.refuse("sync_interval", "goes with sync: \"interval\"") }
        segmentBytes = object.size("segment_bytes", default: segmentBytes, atMost: 64 << 20)
        if segmentBytes < 64 << 10 { object.refuse("segment_bytes", "must be at least 64KiB, is \(segmentBytes) bytes") }
        object.refuseUnknown()
    }
}
