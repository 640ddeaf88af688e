import ConfigJSON
import LinuxSystem
import PluginHost
import Receivers
import Telemetry

/// The parts of the page, each on one line, because server-sent events end with a line.
extension Overview {
    var summary: HTML {
        let failing = receivers.filter(\.isFailing).map(\.picture.name)
        var sentences: [HTML] = []
        if !isReady { sentences.append("The gateway is not ready: it starts or stops.") }
        if !failing.isEmpty { sentences.append("Failing: \(Self.list(failing)).") }
        if !reload.isSuccessful { sentences.append("The config was refused, and the one before runs.") }
        if let failure = spool?.failure { sentences.append("The spool cannot store profiles: \(failure).") }
        let isWell = sentences.isEmpty
        if isWell { sentences = ["All receivers work."] }
        let words: [HTML] = sentences.map { "<span>\($0)</span> " }
        return "<p class=\"state \(isWell ? "ok" : "failed" as HTML)\">\(words)</p>"
    }

    private static func list(_ names: [String]) -> HTML {
        let shown = names.prefix(8).joined(separator: ", ")
        return names.count > 8 ? "\(shown) and \(names.count - 8) more" : "\(shown)"
    }

    var listenersTable: HTML {
        let rows: [HTML] = listeners.map { row in
            let refused: [HTML] = row.refused.map { "<li>\($0.what): \(ReadableNumber.count($0.count))</li>" }
            return """
                <tr><th scope="row">\(row.name)</th><td>\(row.address)</td><td class="number">\(ReadableNumber.rate(row.rates.profiles))</td>\
                <td class="number">\(readableSize(Int(min(row.rates.bytes, 1e15))))</td>\
                <td class="number">\(ReadableNumber.count(row.profiles))</td><td class="number">\(readableSize(row.bytes))</td>\
                <td class="number">\(ReadableNumber.count(row.connections))</td>\
                <td>\(refused.isEmpty ? "none" : "<ul>\(refused)</ul>" as HTML)</td></tr>
                """
        }
        return PageFrame.table(
            "Listeners: what comes in",
            ["Listener", "Address", "Profiles/s", "Bytes/s", "Profiles", "Bytes", "Connections", "Refused"],
            numbers: ["Profiles/s", "Bytes/s", "Profiles", "Bytes", "Connections"], rows)
    }

    var receiversTable: HTML {
        PageFrame.table(
            "Receivers: what goes out",
            [
                "Receiver", "Plugin", "Health", "Queue", "Oldest", "Deliveries/s", "Latency", "Delivered", "Retries", "Dropped",
                "Dead letters", "Breaches", "Isolation",
            ], numbers: ["Queue", "Oldest", "Deliveries/s", "Latency", "Delivered", "Retries", "Dead letters"], receivers.map(\.row))
    }

    var process: HTML {
        var facts: [(HTML, HTML)] = [
            ("Version", "\(version)"), ("Started", "<time>\(CivilTime(unixNanoseconds: startedAt).rfc3339)</time>"),
            ("Memory", "\(readableSize(memory))"), ("Config", "\(configPath)"),
            (
                "Config last read",
                "<time>\(CivilTime(unixNanoseconds: reload.at).rfc3339)</time>, \(reload.isSuccessful ? "in use" : "refused" as HTML)"
            ),
        ]
        if let spool {
            let unreadable: [HTML] = spool.unreadable.prefix(8).map { "<li>cannot read \($0.file): \($0.error)</li>" }
            facts.append(
                (
                    "Spool",
                    """
                    \(ReadableNumber.count(spool.segments)) segments, \(readableSize(spool.bytes))\
                    \(spool.failure.map { ", cannot store: \($0)" as HTML } ?? "")\
                    \(unreadable.isEmpty ? "" : "<ul>\(unreadable)</ul>" as HTML)
                    """
                ))
        } else {
            facts.append(("Spool", "none: queues are in memory"))
        }
        let list: [HTML] = facts.map { "<div><dt>\($0)</dt><dd>\($1)</dd></div>" }
        let problems: [HTML] = reload.problems.prefix(20).map { "<li>\($0)</li>" }
        return "<dl class=\"facts\">\(list)</dl>\(problems.isEmpty ? "" : "<ul class=\"problems\">\(problems)</ul>" as HTML)"
    }
}

extension Overview.ReceiverRow {
    fileprivate var row: HTML {
        let drops: [HTML] = picture.drops.map { "<li>\($0.reason): \(ReadableNumber.count($0.count))</li>" }
        var notes: [HTML] = []
        if !picture.reason.isEmpty { notes.append("<span class=\"note\">\(Self.short(picture.reason))</span>") }
        if picture.health != .ok, !picture.lastError.isEmpty, picture.lastError != picture.reason {
            notes.append("<span class=\"note\">last error: \(Self.short(picture.lastError))</span>")
        }
        let breaches: HTML =
            picture.breaches == 0
            ? "0" : "\(ReadableNumber.count(picture.breaches))<span class=\"note\">last: \(Self.short(picture.lastBreach))</span>"
        let restarts: HTML = picture.restarts == 0 ? "" : ", \(picture.restarts) restarts"
        return """
            <tr class="\(picture.health.rawValue)"><th scope="row">\(picture.name)\(picture.isRequired ? "" : " <small>(optional)</small>" as HTML)</th>\
            <td>\(picture.plugin) \(picture.version)</td>\
            <td class="wide"><span class="badge \(picture.health.rawValue)">\(picture.health.rawValue)</span>\(notes)</td>\
            <td class="number">\(ReadableNumber.count(picture.queuedProfiles))<span class="note">\(readableSize(picture.queuedBytes))</span></td>\
            <td class="number">\(picture.queuedProfiles == 0 ? "–" : "\(ReadableNumber.seconds(picture.oldestSeconds))" as HTML)</td>\
            <td class="number">\(ReadableNumber.rate(rate))</td>\
            <td class="number">\(latency.map { "\(ReadableNumber.seconds($0))" as HTML } ?? "–")</td>\
            <td class="number">\(ReadableNumber.count(picture.delivered))</td><td class="number">\(ReadableNumber.count(picture.retries))</td>\
            <td>\(drops.isEmpty ? "none" : "<ul>\(drops)</ul>" as HTML)</td>\
            <td class="number">\(ReadableNumber.count(picture.deadLettered))\(letters)</td>\
            <td>\(breaches)</td><td>\(picture.isolation)\(restarts)</td></tr>
            """
    }

    private var letters: HTML { deadLetters.map { "<span class=\"note\">\(ReadableNumber.count($0)) kept</span>" } ?? "" }

    private static func short(_ text: String) -> String {
        text.utf8.count <= 300 ? text : String(text.unicodeScalars.prefix(300)) + "…"
    }
}
