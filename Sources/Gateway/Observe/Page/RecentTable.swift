import LinuxSystem
import Profiles
import Receivers
import Telemetry

/// The table of the profiles that were accepted last.
struct RecentTable {
    /// The most rows that are shown.
    static let mostRows = 200
    /// The most bytes of rows; labels may be long.
    private static let mostBytes = 384 << 10

    let entries: [FanOut.Recent.Entry]
    let bounds: FanOut.Recent.Bounds
    /// Words that a row must all contain, in any case.
    let filter: String

    var html: HTML {
        if bounds.profiles == 0 || bounds.bytes == 0 { return "<p>Recent profiles are not kept: admin.recent is 0.</p>" }
        if entries.isEmpty { return "<p>No profile has been accepted yet.</p>" }
        let words = filter.lowercased().split(separator: " ").map(String.init)
        var (rows, bytes): ([HTML], Int) = ([], 0)
        for entry in entries where rows.count < Self.mostRows && bytes < Self.mostBytes {
            guard words.isEmpty || entry.matches(words) else { continue }
            let row = entry.row
            rows.append(row)
            bytes += row.text.utf8.count
        }
        let table = PageFrame.table(
            "The last accepted profiles, the newest first",
            ["Received", "Labels", "Tenant", "Format", "Size", "Sender", "Where it went"], numbers: ["Size"], rows)
        return "\(table)<p class=\"note\" data-count>\(rows.count) of \(entries.count) kept profiles are shown.</p>"
    }

    /// The form that filters, with and without JavaScript.
    static func form(_ filter: String) -> HTML {
        """
        <form class="filter" role="search" method="get" action="/#recent-heading">\
        <label for="filter">Filter profiles by words</label>\
        <input id="filter" name="filter" type="search" maxlength="200" autocomplete="off" value="\(filter)">\
        <button type="submit">Filter</button></form>
        """
    }
}

extension FanOut.Recent.Entry {
    fileprivate func matches(_ words: [String]) -> Bool {
        let fates = fates.map { "\($0.receiver) \($0.fate.word)" }.joined(separator: " ")
        let text = "\(summary.labels) \(summary.tenant) \(summary.format) \(summary.peer) \(fates)".lowercased()
        return words.allSatisfy { text.contains($0) }
    }

    fileprivate var row: HTML {
        let time = CivilTime(unixNanoseconds: summary.receivedAt).rfc3339
        let places: [HTML] = fates.map { "<li>\($0.receiver): \($0.fate.badge)</li>" }
        return """
            <tr><th scope="row" class="time"><a id="p\(sequence)" href="/profiles/\(sequence)"><time datetime="\(time)">\
            \(String(time.dropFirst(11).prefix(8)))</time></a></th>\
            <td class="labels">\(shortLabels)</td><td>\(summary.tenant)</td><td>\(summary.format)</td>\
            <td class="number">\(readableSize(summary.byteCount))</td><td>\(summary.peer)</td><td><ul>\(places)</ul></td></tr>
            """
    }

    private var shortLabels: String {
        let scalars = summary.labels.unicodeScalars
        return scalars.count <= 400 ? summary.labels : String(scalars.prefix(400)) + "…"
    }
}

extension FanOut.Recent.Fate {
    /// The state in a word or two, for the filter.
    var word: String {
        switch self {
        case .queued: "queued"
        case .delivered: "delivered"
        case .retrying: "retrying"
        case .dropped: "dropped"
        case .deadLetter: "dead letter"
        }
    }

    var badge: HTML {
        switch self {
        case .queued: "<span class=\"badge queued\">queued</span>"
        case .delivered: "<span class=\"badge ok\">delivered</span>"
        case .retrying(let attempts, let why):
            "<span class=\"badge degraded\">retrying</span> <span class=\"note\">after \(counted(attempts, "attempt")): \(why)</span>"
        case .dropped(let reason, let why):
            "<span class=\"badge failed\">dropped</span> <span class=\"note\">\(reason.rawValue)\(why.isEmpty ? "" : ": \(why)" as HTML)</span>"
        case .deadLetter(let reason, let why):
            "<span class=\"badge failed\">dead letter</span> <span class=\"note\">\(reason.rawValue)\(why.isEmpty ? "" : ": \(why)" as HTML)</span>"
        }
    }
}
