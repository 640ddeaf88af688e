import ConfigJSON
import LinuxSystem

/// The `config` of a `pyroscope.write` receiver; names and defaults are Alloy's.
struct WriterConfig: Sendable {
    static let maximumEndpoints = EndpointBits.most

    var endpoints: [EndpointConfig] = []
    /// Labels added to each profile; an external label replaces one of the same name.
    var externalLabels: [(name: String, value: String)] = []
    var unsafeLabels = UnsafeLabels.reject
    var appName = AppName.keep
    /// The limits of a batch; nil sends each profile in its own request.
    var batch: Batch?
    /// How many threads make the requests, each with its own connections; one is the gateway's delivery thread.
    var loops = 1

    /// The treatment of a profile from `/ingest` whose labels cannot be written in an `/ingest` query again.
    enum UnsafeLabels: String, CaseIterable { case reject, push }

    /// Whether the label `app_name` is added where Alloy's components add it.
    enum AppName: String, CaseIterable { case keep, alloy }

    /// The most that one Push request may carry.
    struct Batch: Equatable {
        var maximumProfiles = 64
        var maximumBytes = 4 << 20
    }

    init(_ object: ConfigObject) {
        let entries = object.objects("endpoint") ?? []
        if object.value("endpoint") == nil || object.value("endpoint")?.text == "[]" {
            object.refuse("endpoint", "must hold at least one endpoint")
        }
        if entries.count > Self.maximumEndpoints {
            object.refuse("endpoint", "must hold at most \(Self.maximumEndpoints) endpoints, holds \(entries.count)")
        }
        endpoints = entries.map(EndpointConfig.init)
        externalLabels = object.stringMembers("external_labels")
        unsafeLabels = object.choice("unsafe_labels", default: unsafeLabels)
        appName = object.choice("app_name", default: appName)
        if let batch = object.object("batch") {
            self.batch = Batch(
                maximumProfiles: batch.integer("max_profiles", in: 1...16_384, default: Batch().maximumProfiles),
                maximumBytes: batch.size("max_bytes", default: Batch().maximumBytes))
            batch.refuseUnknown()
        }
        loops = object.integer("loops", in: 1...16, default: loops)
        for label in externalLabels {
            let objection = unsafeLabels == .push ? nil : LabelGrammar.objection(toValue: label.value)
            if let why = LabelGrammar.objection(toName: label.name) ?? objection {
                object.problems.add(
                    Problems.path(object.path("external_labels"), label.name), why,
                    at: object.value("external_labels")?.position)
            }
        }
    }
}

/// The label names and values that `name=` of `/ingest` can carry; it has no quoting, so not all can be written.
enum LabelGrammar {
    /// Why a label name cannot be written; nil when it can.
    static func objection(toName name: String) -> String? {
        if name.hasPrefix("__") { return "is a reserved name" }
        let isPlain = !name.isEmpty && name.utf8.allSatisfy { (48...57 ~= $0) || (65...90 ~= $0 & 0xDF) || $0 == 95 || $0 == 46 }
        return isPlain ? nil : "is no label name: only A-Z a-z 0-9 _ . are allowed"
    }

    /// Why a label value cannot be written; nil when it can.
    static func objection(toValue value: String) -> String? {
        for scalar in value.unicodeScalars {
            switch scalar {
            case ",", "}": return "has the value \(JSONValue.quoted(value)): \"\(scalar)\" cannot be written in name= of /ingest"
            case "\0"..."\u{1f}", "\u{7f}"..."\u{9f}":
                return "has the value \(JSONValue.quoted(value)): a control character cannot be written in name= of /ingest"
            default: break
            }
        }
        if value.first?.isWhitespace == true || value.last?.isWhitespace == true {
            return "has the value \(JSONValue.quoted(value)): white space at an end is lost in name= of /ingest"
        }
        return nil
    }

    static func isAppName(_ name: String) -> Bool {
        !name.isEmpty
            && name.utf8.allSatisfy { (48...57 ~= $0) || (65...90 ~= $0 & 0xDF) || "_./-".utf8.contains($0) }
    }
}
