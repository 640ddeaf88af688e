import ConfigJSON
import HTTPServer
import LinuxSystem
import PushWire
import Telemetry

/// `gateway status`: prints what a running gateway's status page says.
enum StatusCommand {
    static func run(_ words: [String]) throws(UsageError) -> Int32 {
        let arguments = try Arguments(words, options: Arguments.headerOptions.union(["--config"]), flags: ["--json"])
        try arguments.refuseWords()
        let (path, headers) = (arguments.value("--config") ?? CheckCommand.defaultConfig, try arguments.headers())
        do {
            let admin = try AdminServer(of: path)
            let answer = try admin.client().get(admin.url(AdminEndpoint.statusPath), headers: headers)
            let problems = Problems()
            let value = JSONParser.parse(answer.media.body, dialect: .strict, problems: problems)
            guard answer.status == 200, answer.excess == nil, let value, let page = StatusText(value) else {
                print(refusal(answer, KnownSecrets(of: headers)))
                return 1
            }
            if arguments.has("--json") {
                print(String(decoding: answer.media.body, as: UTF8.self), terminator: "")
            } else {
                for line in page.lines { print(line) }
            }
            return 0
        } catch {
            printError("gateway: \(error)")
            return 1
        }
    }

    private static func refusal(_ answer: HTTPClient.Answer, _ secrets: KnownSecrets) -> String {
        let said = "\(answer.status) \(Response.reason(answer.status))"
        if let excess = answer.excess { return "\(said), but the answer has \(excess)" }
        return answer.status == 200 ? "\(said), but the answer is no gateway's status" : said + answer.words(secrets)
    }
}

/// The status page of a gateway in words.
private struct StatusText {
    private let page: ConfigObject
    private let reload: ConfigObject
    private let listeners: [ConfigObject]
    private let receivers: [ConfigObject]

    /// Nil when the value is not a gateway's status page.
    init?(_ value: JSONValue) {
        page = ConfigObject(value, path: "", problems: Problems())
        guard page.string("version") != nil, let reload = page.object("reload"), let listeners = page.objects("listeners"),
            let receivers = page.objects("receivers")
        else { return nil }
        (self.reload, self.listeners, self.receivers) = (reload, listeners, receivers)
    }

    var lines: [String] {
        let version = text(page, "version")
        let state = page.bool("ready", default: false) ? "is ready" : "is not ready"
        let memory = "memory: \(readableSize(number(page, "memory_bytes")))"
        return ["gateway \(version) \(state), with the config \(text(page, "config"))"] + reloadLines + [""] + listenerLines + [""]
            + receiverLines + [""] + deliveryLines + [""] + noteLines + [memory] + spoolLines
    }

    private var reloadLines: [String] {
        if reload.bool("successful", default: false) { return ["the config was last read at \(text(reload, "at")), and is what runs"] }
        return ["the config was last read at \(text(reload, "at")), and refused; the one before runs"]
            + (reload.strings("problems") ?? []).map { "  " + printable($0) }
    }

    private var listenerLines: [String] {
        var table = AlignedTable(["LISTENER", "ADDRESS", "CONNECTIONS", "PROFILES", "PER SECOND", "BYTES", "PER SECOND"])
        for listener in listeners {
            let address = AdminServer.place(text(listener, "address"), number(listener, "port"))
            table.add([
                text(listener, "name"), address, "\(number(listener, "connections"))", "\(number(listener, "profiles"))",
                ReadableNumber.rate(decimal(listener, "profiles_per_second") ?? 0), readableSize(number(listener, "bytes")),
                readableSize(Int(min(decimal(listener, "bytes_per_second") ?? 0, 1e15))),
            ])
        }
        return table.lines
    }

    private var receiverLines: [String] {
        var table = AlignedTable(["RECEIVER", "HEALTH", "QUEUED", "BYTES", "OPEN", "BREACHES", "RESTARTS", "PLUGIN"])
        for receiver in receivers {
            let numbers = ["open_deliveries", "breaches", "restarts"].map { "\(number(receiver, $0))" }
            let queued = ["\(number(receiver, "queue_profiles"))", readableSize(number(receiver, "queue_bytes"))]
            table.add([text(receiver, "name"), text(receiver, "health")] + queued + numbers + [text(receiver, "plugin")])
        }
        return table.lines
    }

    private var deliveryLines: [String] {
        var table = AlignedTable([
            "RECEIVER", "DELIVERED", "PER SECOND", "LATENCY", "OLDEST", "RETRIES", "DROPPED", "DEAD LETTERS", "ISOLATION",
        ])
        for receiver in receivers {
            let latency = decimal(receiver, "latency_seconds").map(ReadableNumber.seconds) ?? "-"
            let oldest =
                number(receiver, "queue_profiles") == 0 ? "-" : ReadableNumber.seconds(decimal(receiver, "queue_oldest_seconds") ?? 0)
            let dropped = counts(receiver, "dropped").reduce(0) { $0.addingSaturated($1.count) }
            table.add([
                text(receiver, "name"), "\(number(receiver, "delivered"))",
                ReadableNumber.rate(decimal(receiver, "deliveries_per_second") ?? 0),
                latency, oldest, "\(number(receiver, "retries"))", "\(dropped)", "\(number(receiver, "dead_lettered"))",
                text(receiver, "isolation"),
            ])
        }
        return table.lines
    }

    /// The texts and counts that are too long or too many for a table, a line each.
    private var noteLines: [String] {
        let members = [("reason", "health"), ("last_error", "last error"), ("last_breach", "last breach")]
        let refused = listeners.flatMap { listener in
            counts(listener, "refused").map { "\(text(listener, "name")): refused: \(printable($0.name)): \($0.count)" }
        }
        return refused
            + receivers.flatMap { receiver in
                members.compactMap { member, title in
                    let said = text(receiver, member)
                    return said.isEmpty ? nil : "\(text(receiver, "name")): \(title): \(said)"
                } + counts(receiver, "dropped").map { "\(text(receiver, "name")): dropped: \(printable($0.name)): \($0.count)" }
            }
    }

    private var spoolLines: [String] {
        guard case .object = page.value("spool")?.content, let spool = page.object("spool") else { return ["spool: none"] }
        let failure = text(spool, "failure")
        let unreadable = (spool.objects("unreadable") ?? []).map { "spool: cannot read \(text($0, "file")): \(text($0, "error"))" }
        return ["spool: segments: \(number(spool, "segments")), \(readableSize(number(spool, "bytes")))"]
            + (failure.isEmpty ? [] : ["spool: cannot store: \(failure)"]) + unreadable
    }

    private func text(_ object: ConfigObject, _ member: String) -> String { printable(object.string(member) ?? "") }

    /// A number with a fraction; nil where the page has none.
    private func decimal(_ object: ConfigObject, _ member: String) -> Double? {
        guard case .number(let digits) = object.value(member)?.content else { return nil }
        return Double(digits)
    }

    /// The members of an object whose values are counts.
    private func counts(_ object: ConfigObject, _ member: String) -> [(name: String, count: Int)] {
        guard case .object(let members) = object.value(member)?.content else { return [] }
        return members.compactMap { entry in
            guard case .number(let digits) = entry.value.content, let count = Int(digits) else { return nil }
            return (entry.name, count)
        }
    }

    private func number(_ object: ConfigObject, _ member: String) -> Int { object.integer(member, in: 0...(.max), default: 0) }
}
