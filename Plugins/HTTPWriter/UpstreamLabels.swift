import PluginABI
import PluginKit

/// The labels that a Pyroscope server gets with a profile: the sender's, those that Alloy adds (`app_name`), and the external ones.
///
/// The gateway has added `service_name` to the labels of a profile from `/ingest`, or `app_name` where the sender gave a
/// `service_name`. Pyroscope adds the first itself. It adds `app_name` by rules of its own, which depend on the format and on
/// whether `name=` has a `service_name`. So what the gateway has added is sent only where Alloy sends it.
struct UpstreamLabels {
    typealias Label = (name: String, value: String)

    private let profile: Profile
    private let config: WriterConfig
    /// Made anew each time, because most profiles from `/ingest` need none.
    private var labels: [Label] { profile.labels }

    init(_ profile: Profile, _ config: WriterConfig) { (self.profile, self.config) = (profile, config) }

    /// The labels of a Push: as in Alloy, reserved labels are dropped except `__name__` and `__delta__`.
    var ofPush: [Label] {
        let kept = ofSeries.filter { !$0.name.hasPrefix("__") || $0.name == "__name__" || $0.name == "__delta__" }
        return withExternal(kept)
    }

    /// The labels in `name=` of `/ingest`; nil when the sender's `name` has just these.
    var ofIngest: [Label]? {
        if config.externalLabels.isEmpty && config.appName == .keep { return nil }
        let sent = sent
        let wanted = withExternal(config.appName == .alloy ? ofAlloysIngest : sent)
        let isSame = wanted.count == sent.count && wanted.allSatisfy { label in sent.contains { $0 == label } }
        return isSame ? nil : wanted
    }

    /// External labels replace others of the same name.
    private func withExternal(_ labels: [Label]) -> [Label] {
        let external = config.externalLabels
        return (labels.filter { label in !external.contains { $0.name == label.name } } + external).sorted { $0.name < $1.name }
    }

    /// The labels of a series, before the external ones.
    private var ofSeries: [Label] {
        switch (profile.api, config.appName) {
        case (.push, .alloy): alloysSeries
        // A Push needs a `service_name`, which Pyroscope adds to what comes by `/ingest` only.
        case (.ingest, .keep): sent.filter { $0.name != "service_name" } + labels.filter { $0.name == "service_name" }
        default: labels
        }
    }

    /// Alloy keeps the name of a series that has a `service_name` as `app_name`; as there, an empty value is none.
    private var alloysSeries: [Label] {
        guard labels.contains(where: { $0.name == "service_name" && !$0.value.isEmpty }) else { return labels }
        let name = labels.filter { $0.name == "__name__" && !$0.value.isEmpty }.map { (name: "app_name", value: $0.value) }
        return labels.filter { $0.name != "app_name" } + name
    }

    /// Alloy sends all that the gateway has added. Pyroscope adds `app_name` to a JFR with a `service_name`, and refuses a second one.
    private var ofAlloysIngest: [Label] { profile.format == "jfr" ? labels.filter { $0.name != "app_name" } : labels }

    // MARK: What the sender sent

    /// The labels of a profile from `/ingest` without what the gateway has added.
    private var sent: [Label] {
        let pairs = Self.pairs(ofNameIn: profile.query)
        let own = pairs.filter { $0.name == "service_name" || $0.name == "app_name" }
        return labels.filter { $0.name != "service_name" && $0.name != "app_name" } + own
    }

    /// The labels that the first `name` of a query spells, the last of several of one name.
    ///
    /// The gateway has read them already, by the same grammar: there is no quoting, and a label without an end or a value is none.
    private static func pairs(ofNameIn query: String) -> [Label] {
        guard let part = query.split(separator: "&").first(where: { $0.hasPrefix("name=") }) else { return [] }
        let name = decoded(part.utf8.dropFirst("name=".utf8.count))
        var pairs: [Label] = []
        var rest = name.utf8.drop { $0 != UInt8(ascii: "{") }.dropFirst()
        while let equals = rest.firstIndex(where: { $0 == UInt8(ascii: "=") || $0 == UInt8(ascii: "}") }), rest[equals] == UInt8(ascii: "=")
        {
            let value = rest[equals...].dropFirst()
            guard let end = value.firstIndex(where: { $0 == UInt8(ascii: ",") || $0 == UInt8(ascii: "}") }) else { break }
            let label = (name: trimmed(rest[..<equals]), value: trimmed(value[..<end]))
            pairs.removeAll { $0.name == label.name }
            pairs.append(label)
            rest = value[end...].dropFirst()
        }
        return pairs
    }

    /// `+` is a space, and `%41` is `A`.
    private static func decoded(_ text: Substring.UTF8View) -> String {
        var bytes: [UInt8] = []
        var rest = text
        while let byte = rest.popFirst() {
            if byte == UInt8(ascii: "%"), let value = UInt8(String(Substring(rest.prefix(2))), radix: 16) {
                bytes.append(value)
                rest = rest.dropFirst(2)
            } else {
                bytes.append(byte == UInt8(ascii: "+") ? 32 : byte)
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    private static func trimmed(_ text: Substring.UTF8View) -> String {
        var text = Substring(text).unicodeScalars
        while text.first?.properties.isWhitespace == true { text.removeFirst() }
        while text.last?.properties.isWhitespace == true { text.removeLast() }
        return String(text)
    }
}
