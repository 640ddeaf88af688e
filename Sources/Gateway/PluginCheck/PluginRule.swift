/// One rule that `gateway plugin check` tries, in a process of its own.
enum PluginRule: String, CaseIterable {
    case symbols, load, schema, create
    case unknownMember = "unknown-member"
    case emptyConfig = "empty-config"
    case wrongMembers = "wrong-members"
    case start, probe, deliveries, flush, drain, abort
    case twoInstances = "two-instances"
    case processState = "process-state"
    case leaks, isolation

    /// The rule in words, with the plugin as its subject.
    var demand: String {
        switch self {
        case .symbols: "exports nothing but its entry"
        case .load: "is loaded, and has a name and a version"
        case .schema: "has a schema of its config that is a JSON object"
        case .create: "makes an instance of the config, and destroys it"
        case .unknownMember: "refuses a member that it does not know, and names it"
        case .emptyConfig: "takes an empty config, or says what is missing"
        case .wrongMembers: "survives members of the wrong type"
        case .start: "starts, or says why it cannot"
        case .probe: "tells without a profile whether a delivery could succeed"
        case .deliveries: "finishes every kind of profile exactly once"
        case .flush: "finishes a flush"
        case .drain: "sends what it holds back when the end is near"
        case .abort: "finishes what is open within a second of abort"
        case .twoInstances: "has two instances at work at a time"
        case .processState: "leaves environment, working directory, umask, locale and signals as they are"
        case .leaks: "leaves no descriptor and no thread behind"
        case .isolation: "works in a process of its own"
        }
    }

    /// The result of a rule.
    enum Verdict: Equatable {
        /// The plugin keeps the rule; the text tells what was seen.
        case pass(String)
        case fail(String)
        /// Why it was not tried.
        case notTried(String)

        var word: String {
            switch self {
            case .pass: "pass"
            case .fail: "fail"
            case .notTried: "not tried"
            }
        }

        var text: String {
            switch self {
            case .pass(let text), .fail(let text), .notTried(let text): text
            }
        }

        init?(_ word: String, _ text: String) {
            switch word {
            case "pass": self = .pass(text)
            case "fail": self = .fail(text)
            case "not tried": self = .notTried(text)
            default: return nil
            }
        }
    }
}
