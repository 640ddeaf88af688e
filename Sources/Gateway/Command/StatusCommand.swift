import ConfigJSON
import HTTPServer
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
        return ["gateway \(version) \(state), with the config \(text(page, "config"))"] + reloadLines + [""] + listenerLines + [""]
            + receiverLines + [""] + spoolLines
    }

    private var reloadLines: [String] {
        if reload.bool("successful", default: false) { return ["the config was last read at \(text(reload, "at")), and is what runs"] }
        return ["the config was last read at \(text(reload, "at")), and refused; the one before runs"]
            + (reload.strings("problems") ?? []).map { "  " + printable($0) }
    }

    private var listenerLines: [String] {
        var table = AlignedTable(["LISTENER", "ADDRESS", "CONNECTIONS"])
        for listener in listeners {
            let address = AdminServer.place(text(listener, "address"), number(listener, "port"))
            table.add([text(listener, "name"), address, "\(number(listener, "connections"))"])
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
        let notes = [("reason", "health"), ("last_error", "last error"), ("last_breach", "last breach")]
        return table.lines
            + receivers.flatMap { receiver in
                notes.compactMap { member, title in
                    let said = text(receiver, member)
                    return said.isEmpty ? nil : "\(text(receiver, "name")): \(title): \(said)"
                }
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

    private func number(_ object: ConfigObject, _ member: String) -> Int { object.integer(member, in: 0...(.max), default: 0) }
}
