import ConfigJSON
import Glibc
import LinuxSystem
import PluginABI
import PluginHost
import Profiles
import Receivers

/// The process that tries one rule of `gateway plugin check`, so that a plugin that crashes or hangs fails one rule only.
struct PluginRuleProcess {
    /// The internal command that runs it.
    static let command = "plugin-check"
    private let file: PluginFile
    private let config: String
    /// A step that takes longer fails its rule.
    private let stepTime: Duration
    private let say: (String) -> Void

    /// Reads path, SHA-256, config and the time of a step from descriptor 3, each ended by a NUL, tries the rule and writes lines to it: steps, and the
    /// verdict last.
    static func run(_ rule: PluginRule, parent: Int32) -> Int32 {
        ProcessRestriction.endWithParent(parent)
        ProcessRestriction.closeDescriptors(from: 4)
        let socket = FileDescriptor(owning: 3)
        guard let input = try? socket.readAll(limit: 256 << 20),
            let notes = try? SharedMapping(SharedMapping.anonymousFile("notes", count: CrashGuard.size), count: CrashGuard.size)
        else { return 1 }
        unsafe CrashGuard.begin(notes.address, copyingTo: nil)
        // The plugin may print, and its output is no part of the report.
        if let null = try? FileDescriptor.open("/dev/null", O_WRONLY) { for number in [1, 2] as [Int32] { dup2(null.number, number) } }
        let parts = input.split(separator: 0, omittingEmptySubsequences: false).map { String(decoding: $0, as: UTF8.self) }
        guard parts.count == 5, let stepTime = Int64(parts[3]).map({ Duration.nanoseconds($0) }) else { return 1 }
        let say = { (line: String) in _ = try? unsafe socket.writeAll(Array((line + "\n").utf8).span.bytes) }
        let name = PluginName(name: parts[0], sha256: parts[1].isEmpty ? nil : parts[1])
        let verdict: PluginRule.Verdict
        do throws(PluginLibrary.LoadError) {
            verdict = PluginRuleProcess(file: try name.find(in: []), config: parts[2], stepTime: stepTime, say: say).check(rule)
        } catch { verdict = .fail("\(error)") }
        say("\(verdict.word)\t\(verdict.text.replacing("\n", with: "; "))")
        CrashGuard.processEnds()
        // The plugin's threads may still run where a rule has failed.
        _exit(0)
    }

    private func check(_ rule: PluginRule) -> PluginRule.Verdict {
        if rule == .symbols { return symbols() }
        if rule == .isolation { return isolation() }
        let library: PluginLibrary
        say("loading")
        do throws(PluginLibrary.LoadError) {
            library = try PluginLibrary.load(PluginName(name: file.path, sha256: file.sha256), from: [])
        } catch { return .fail("\(error)") }
        let identity = library.identity
        switch rule {
        case .load: return .pass("\(identity.name) \(identity.version), interface \(identity.interface)")
        case .schema: return schema(identity)
        case .unknownMember: return unknownMember(library)
        case .emptyConfig: return outcome(of: "{}", library).map { .pass($0) } ?? .fail("refused without a reason")
        case .wrongMembers: return wrongMembers(library)
        case .start where !identity.later.start: return .notTried("the plugin has no start")
        case .probe where !identity.later.probe: return .notTried("the plugin has no probe")
        case .drain where !identity.later.drain: return .notTried("the plugin has no drain")
        case .processState: return processState(library)
        case .leaks: return leaks(library)
        case .twoInstances: return with(library) { one in with(library) { other in delivered([one, other]) } }
        case .create, .start, .probe: return with(library, starts: false) { session in check(rule, session) }
        case .abort: return with(library, flushes: false) { session in check(rule, session) }
        default: return with(library) { session in check(rule, session) }
        }
    }

    private func check(_ rule: PluginRule, _ session: PluginSession) -> PluginRule.Verdict {
        switch rule {
        case .start:
            say("start")
            if case .failed(let reason) = session.instance.start() { return .pass("it says: \(reason)") }
            return .pass("started")
        case .probe:
            say("probe")
            let token = session.probe()
            let open = session.open(of: [token], after: stepTime)
            return open == 0 ? .pass(session.outcomes(of: [token])) : .fail("it was not finished in time")
        case .deliveries: return deliveries(session)
        case .flush:
            let tokens = (0..<5).map { _ in session.deliver(CheckProfiles.small()) }
            say("flush")
            let open = session.open(of: tokens + [session.flush()], after: stepTime)
            return open == 0 ? .pass(session.outcomes(of: tokens)) : .fail("\(open) operations were not finished in time")
        case .drain:
            let tokens = (0..<5).map { _ in session.deliver(CheckProfiles.small()) }
            say("drain")
            session.instance.drain()
            let open = session.open(of: tokens, after: stepTime)
            return open == 0 ? .pass(session.outcomes(of: tokens)) : .fail("\(open) deliveries were not finished in time after drain")
        case .abort: return abort(session)
        default: return .pass("made and destroyed")
        }
    }

    // MARK: Instances

    /// Makes an instance, tries something with it, and ends it.
    private func with(
        _ library: PluginLibrary, starts: Bool = true, flushes: Bool = true, _ body: (PluginSession) -> PluginRule.Verdict
    ) -> PluginRule.Verdict {
        say("create")
        do throws(PluginInstance.Refusal) {
            let session = try PluginSession(library, config)
            if starts, let obstacle = started(session) { return obstacle }
            let verdict = body(session)
            guard case .pass = verdict else { return verdict }
            say(flushes ? "flush and destroy" : "destroy")
            return session.end(flushes: flushes, within: stepTime).map { .fail($0) } ?? verdict
        } catch { return .fail("it refuses the config: \(error.message)") }
    }

    /// Starts an instance; returns why nothing can be delivered to it.
    private func started(_ session: PluginSession) -> PluginRule.Verdict? {
        say("start")
        if case .failed(let reason) = session.instance.start() { return .notTried("its start fails: \(reason)") }
        return nil
    }

    private func delivered(_ sessions: [PluginSession]) -> PluginRule.Verdict {
        say("deliver to \(sessions.count) instances")
        for session in sessions {
            let tokens = (0..<5).map { _ in session.deliver(CheckProfiles.small()) }
            if case let open = session.open(of: tokens, after: stepTime), open > 0 {
                return .fail("\(open) deliveries were not finished in time")
            }
        }
        return .pass("both have delivered")
    }

    private func deliveries(_ session: PluginSession) -> PluginRule.Verdict {
        var all: [UInt] = []
        for kind in CheckProfiles.kinds {
            say("deliver \(kind.name)")
            let token = session.deliver(kind.make())
            if session.open(of: [token], after: stepTime) > 0 { return .fail("\(kind.name) was not finished in time") }
            all.append(token)
        }
        return .pass("\(all.count) kinds: \(session.outcomes(of: all))")
    }

    private func abort(_ session: PluginSession) -> PluginRule.Verdict {
        let tokens = (0..<50).map { _ in session.deliver(CheckProfiles.small()) }
        say("abort")
        let begin = MonotonicTime.now
        session.instance.abort()
        // A little more than the contract's second, for a busy machine.
        let open = session.open(of: tokens, after: .milliseconds(1500))
        guard open == 0 else { return .fail("\(open) of 50 deliveries were open a second after abort") }
        return .pass("\(session.outcomes(of: tokens)), after \(MonotonicTime.now.since(begin).inWords)")
    }

    private func isolation() -> PluginRule.Verdict {
        say("create in a process of its own")
        do throws(PluginInstance.StartError) {
            let session = try PluginSession(isolated: file, config)
            if let obstacle = started(session) { return obstacle }
            let tokens = (0..<5).map { _ in session.deliver(CheckProfiles.small()) }
            say("deliver in a process of its own")
            if case let open = session.open(of: tokens, after: stepTime), open > 0 {
                return .fail("\(open) deliveries were not finished in time")
            }
            return session.end(flushes: true, within: stepTime).map { .fail($0) } ?? .pass(session.outcomes(of: tokens))
        } catch {
            switch error {
            case .notLoaded(let reason): return .fail(reason)
            case .refused(let refusal): return .fail("it refuses the config: \(refusal.message)")
            case .ended(let end): return .fail("its process ended: \(end.how)")
            }
        }
    }

    // MARK: Configs

    private func schema(_ identity: PluginIdentity) -> PluginRule.Verdict {
        if identity.configSchema.isEmpty { return .notTried("the plugin has no schema") }
        let problems = Problems()
        let value = JSONParser.parse(Array(identity.configSchema.utf8), dialect: .strict, problems: problems)
        if let problem = problems.list.first {
            return .fail("line \(problem.position?.line ?? 0), column \(problem.position?.column ?? 0): \(problem.description)")
        }
        guard case .object(let members)? = value?.content else { return .fail("it is \(value?.kind ?? "no JSON")") }
        return .pass("\(members.count) members")
    }

    private static let unknownName = "no-such-member-of-any-plugin"

    private var members: [JSONMember] {
        guard case .object(let members)? = JSONParser.parse(Array(config.utf8), dialect: .strict, problems: Problems())?.content else {
            return []
        }
        return members
    }

    private static func text(_ members: [(name: String, value: String)]) -> String {
        "{\(members.map { "\(JSONValue.quoted($0.name)):\($0.value)" }.joined(separator: ","))}"
    }

    /// Calls `create` with a config, and describes the result; nil when the plugin refuses without a reason.
    private func outcome(of config: String, _ library: PluginLibrary) -> String? {
        say("create with \(config.prefix(100))")
        do throws(PluginInstance.Refusal) {
            let session = try PluginSession(library, config)
            session.instance.destroy()
            return "made"
        } catch { return error.isWithoutReason ? nil : "refused: \(error.message)" }
    }

    private func unknownMember(_ library: PluginLibrary) -> PluginRule.Verdict {
        let config = Self.text(members.map { ($0.name, $0.value.text) } + [(Self.unknownName, "1")])
        guard let outcome = outcome(of: config, library) else { return .fail("refused without a reason") }
        if outcome == "made" { return .fail("a config with an unknown member is taken") }
        return outcome.contains(Self.unknownName) ? .pass(outcome) : .fail("the refusal does not name the member: \(outcome)")
    }

    private func wrongMembers(_ library: PluginLibrary) -> PluginRule.Verdict {
        let all = members
        if all.isEmpty { return .notTried("the config has no members; --config gives one") }
        for index in all.indices {
            for wrong in ["null", "[[]]", "-1", "\"\"", "{\"a\":{}}"] {
                let changed = all.enumerated().map { ($1.name, $0 == index ? wrong : $1.value.text) }
                if outcome(of: Self.text(changed), library) == nil {
                    return .fail("\(all[index].name): \(wrong) is refused without a reason")
                }
            }
        }
        return .pass("\(all.count) members, with five wrong values each")
    }

    // MARK: The process

    private func symbols() -> PluginRule.Verdict {
        guard let symbols = file.symbols else { return .notTried("the file has no section headers") }
        let others = symbols.exported.filter { $0 != GW_PLUGIN_ENTRY }
        if !symbols.unique.isEmpty {
            return .fail("one for the whole process (GNU_UNIQUE): \(Self.some(symbols.unique)); build with -fno-gnu-unique")
        }
        if !others.isEmpty {
            return .fail("\(others.count) more: \(Self.some(others)); build with -fvisibility=hidden or a version script")
        }
        return .pass("\(GW_PLUGIN_ENTRY) only")
    }

    private static func some(_ names: [String]) -> String {
        names.prefix(5).joined(separator: ", ") + (names.count > 5 ? " and \(names.count - 5) more" : "")
    }

    private func processState(_ library: PluginLibrary) -> PluginRule.Verdict {
        let before = ProcessPicture()
        let verdict = with(library) { delivered([$0]) }
        guard case .pass = verdict else { return verdict }
        let changes = ProcessPicture().changes(since: before)
        return changes.isEmpty ? .pass("unchanged") : .fail("changed: \(changes.joined(separator: ", "))")
    }

    private func leaks(_ library: PluginLibrary) -> PluginRule.Verdict {
        // The first instance may make things that stay for all later ones.
        var verdict = with(library) { delivered([$0]) }
        var left: String?
        // A leak grows with each instance; a language's runtime that adds a thread or a descriptor to its pool does so now and then.
        for _ in 0..<3 {
            let before = ProcessPicture()
            for _ in 0..<3 {
                guard case .pass = verdict else { return verdict }
                verdict = with(library) { delivered([$0]) }
            }
            guard case .pass = verdict else { return verdict }
            // A thread that was joined may still be listed for a moment.
            let deadline = MonotonicTime.now + .seconds(2)
            repeat { left = ProcessPicture().leftBehind(since: before) } while left != nil && poll(nil, 0, 20) == 0 && .now < deadline
            if left == nil { break }
        }
        return left.map { .fail("after three more instances: \($0)") } ?? .pass("as many as before")
    }
}
