import ConfigJSON
import HTTPServer
import LinuxSystem
import ProfileReader
import Profiles
import Receivers
import Telemetry

/// One accepted profile on the page: what is known of it, its flame graph and its functions.
struct ProfilePage {
    /// What of a profile is asked for.
    enum View: Equatable {
        case page, flameGraph, folded

        /// The rest of the path after the profile's number.
        init?(_ path: Substring) {
            switch path {
            case "": self = .page
            case "/flame.json": self = .flameGraph
            case "/folded.txt": self = .folded
            default: return nil
            }
        }
    }

    static let path = "/profiles/"
    private static let mostFunctions = 100
    private static let mostText = 16 << 20

    let entry: FanOut.Recent.Entry
    let view: View
    /// The number of the sample type that is asked for; nil is the profile's own choice.
    let sampleType: Int?

    /// The answer; reads the profile, which may take seconds.
    func answer() -> Response {
        do throws(ReadProfile.Problem) {
            let profile = try read()
            let type = sampleType.flatMap { profile.sampleTypes.indices.contains($0) ? $0 : nil } ?? profile.defaultSampleType
            switch view {
            case .page: return page(graph(of: profile, type))
            case .flameGraph:
                return Response(status: 200, headers: PageFrame.headers("application/json"), body: profile.flameGraph(sampleType: type))
            case .folded:
                let text = try profile.folded(sampleType: type, most: Self.mostText)
                return Response(status: 200, headers: PageFrame.headers("text/plain; charset=utf-8"), body: text)
            }
        } catch { return view == .page ? page("<p>\(error.description).</p>") : .error(422, error.description) }
    }

    /// The answer when the profile's bytes are not there or are in a format that is not read; nil when they are to be read.
    var answerWithoutReading: Response? {
        let objection: HTML
        if entry.profile == nil {
            objection = "The profile's bytes are not kept: see admin.show_profiles and admin.recent."
        } else if format == nil {
            objection = "Profiles in the format \(entry.summary.format) have no flame graph here."
        } else {
            return nil
        }
        return view == .page ? page("<p>\(objection)</p>") : .error(404, "the profile's bytes cannot be shown")
    }

    private var format: ReadProfile.Format? { ReadProfile.Format(rawValue: entry.summary.format) }

    /// Reads the first payload.
    private func read() throws(ReadProfile.Problem) -> ReadProfile {
        guard let profile = entry.profile, let format, profile.sampleCount > 0 else { return try ReadProfile(reading: [], format: .folded) }
        let body = profile.withSample(0) { bytes in unsafe bytes.withUnsafeBytes { unsafe Array($0) } }
        if entry.summary.contentType.contains("multipart/form-data"),
            let part = MultipartPart.content(named: "profile", in: body, contentType: entry.summary.contentType)
        {
            return try ReadProfile(reading: Array(part), format: format)
        }
        return try ReadProfile(reading: body, format: format)
    }

    // MARK: HTML

    private func page(_ graph: HTML) -> Response {
        let summary = entry.summary
        let span: HTML =
            summary.from == 0 && summary.until == 0
            ? "not said" : "\(Self.time(summary.from)) to \(Self.time(summary.until))"
        var facts: [(HTML, String)] = [
            ("Received", CivilTime(unixNanoseconds: summary.receivedAt).rfc3339), ("Sent to", summary.isPush ? "Push" : "/ingest"),
            ("Tenant", summary.tenant.isEmpty ? "none" : summary.tenant), ("Sender", summary.peer.isEmpty ? "not known" : summary.peer),
            ("Format", summary.format), ("Content-Type", summary.contentType.isEmpty ? "none" : summary.contentType),
            ("Size", readableSize(summary.byteCount)),
        ]
        if summary.sampleCount > 1 { facts.append(("Payloads", "\(summary.sampleCount), the first of which is shown")) }
        let list: [HTML] = facts.map { "<div><dt>\($0)</dt><dd>\($1)</dd></div>" }
        let fates: [HTML] = entry.fates.map { "<tr><th scope=\"row\">\($0.receiver)</th><td>\($0.fate.badge)</td></tr>" }
        let labels = summary.labels.unicodeScalars.count <= 4000 ? summary.labels : String(summary.labels.unicodeScalars.prefix(4000)) + "…"
        return PageFrame.answer(
            title: "Profile \(entry.sequence)",
            """
            <p><a href="/#recent-heading">Back to the overview</a></p>
            <h1>Profile of \(labels)</h1>
            <dl class="facts">\(list)<div><dt>Span</dt><dd>\(span)</dd></div></dl>
            <section aria-labelledby="fates-heading"><h2 id="fates-heading">Where it went</h2>
            \(PageFrame.table("Outcome at each receiver", ["Receiver", "Outcome"], fates))</section>
            \(graph)
            """)
    }

    private static func time(_ nanoseconds: Int64) -> HTML {
        nanoseconds == 0 ? "?" : "<time>\(CivilTime(unixNanoseconds: nanoseconds).rfc3339)</time>"
    }

    private func graph(of profile: ReadProfile, _ type: Int) -> HTML {
        let types = profile.sampleTypes
        let json = types.map { "{\"name\":\(JSONValue.quoted($0.name)),\"unit\":\(JSONValue.quoted($0.unit))}" }.joined(separator: ",")
        let choices: [HTML] = types.enumerated().map { number, choice in
            let name: HTML = "\(choice.name) (\(choice.unit))"
            return number == type
                ? "<li><strong aria-current=\"true\">\(name)</strong></li>"
                : "<li><a href=\"?sample_type=\(number)#functions-heading\">\(name)</a></li>"
        }
        let total = profile.total(sampleType: type)
        let rows: [HTML] = profile.topFunctions(sampleType: type, limit: Self.mostFunctions).map { function in
            """
            <tr><th scope="row" class="function">\(function.name)</th>\
            <td class="number">\(Self.value(function.own, types[type].unit))</td><td class="number">\(Self.share(function.own, total))</td>\
            <td class="number">\(Self.value(function.total, types[type].unit))</td><td class="number">\(Self.share(function.total, total))</td></tr>
            """
        }
        let folded: HTML = "\(Self.path)\(entry.sequence)/folded.txt?sample_type=\(type)"
        return """
            <section aria-labelledby="flame-heading"><h2 id="flame-heading">Flame graph</h2>
            <div id="flame" data-json="\(Self.path)\(entry.sequence)/flame.json" data-sample-types="[\(json)]" data-sample-type="\(type)">\
            <p>The flame graph is drawn by JavaScript; the table below needs none.</p></div></section>
            <section aria-labelledby="functions-heading"><h2 id="functions-heading">Functions</h2>
            <ul class="actions" aria-label="What is counted">\(choices)</ul>
            <p class="actions"><a href="\(folded)">All stacks, folded</a></p>
            \(PageFrame.table(
                "The functions that count most, by what their own code counts", ["Function", "Self", "Self %", "Total", "Total %"],
                numbers: ["Self", "Self %", "Total", "Total %"], rows))
            </section>
            """
    }

    /// A value in the unit of a sample type.
    private static func value(_ value: Int64, _ unit: String) -> String {
        switch unit {
        case "nanoseconds" where value >= 0: ReadableNumber.seconds(Double(value) / 1e9)
        case "bytes" where value >= 0: readableSize(Int(value))
        default: ReadableNumber.count(Int(value))
        }
    }

    private static func share(_ value: Int64, _ total: Int64) -> String {
        guard total > 0 else { return "–" }
        let tenths = Int((Double(value) / Double(total) * 1000).rounded())
        return "\(tenths < 0 ? "-" : "")\(tenths.magnitude / 10).\(tenths.magnitude % 10) %"
    }
}
