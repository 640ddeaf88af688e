import ConfigJSON
import LinuxSystem
import PluginHost
import Receivers
import Telemetry

/// `gateway check --connect`: has each receiver's plugin reach its destination without a profile, and writes to the data directory.
struct ConnectTrial: Sendable {
    /// The lines of one part of the config.
    private struct Report: Sendable {
        var lines: [String] = []
        var isGood = true
    }

    /// The reports so far; one that is missing is still being made.
    private let reports = Monitor<[Int: Report]>([:])

    /// Tries everything at once, and prints the lines in the order of the config.
    ///
    /// - Returns: whether everything can be reached.
    static func run(_ config: Config) -> Bool {
        var tries: [(path: String, time: Duration, body: @Sendable () -> Report)] = []
        if let directory = config.dataDirectory {
            tries.append(("data_dir", .seconds(30), { folder(directory) }))
        }
        for entry in config.receivers {
            // With time for create, and for the process to end.
            let time = entry.deliveryTimeout + .seconds(15)
            let (path, folders) = (Problems.path("receivers", entry.name), config.pluginFolders)
            tries.append((path, time, { receiver(entry, path, folders) }))
        }
        let trial = ConnectTrial()
        let began = MonotonicTime.now
        for (number, attempt) in tries.enumerated() { trial.begin(number, attempt.path, attempt.body) }
        var isGood = true
        for (number, attempt) in tries.enumerated() {
            let late = Report(lines: ["\(attempt.path): no answer after \(attempt.time.inWords)"], isGood: false)
            let report = trial.report(number, until: began + attempt.time) ?? late
            for line in report.lines { print(line) }
            isGood = isGood && report.isGood
        }
        return isGood
    }

    private func begin(_ number: Int, _ path: String, _ body: @escaping @Sendable () -> Report) {
        do throws(SystemError) {
            try Thread.detached("try-\(number)") { [self] in
                let report = body()
                reports.withLock { $0[number] = report }
                reports.signal()
            }
        } catch { reports.withLock { $0[number] = Report(lines: ["\(path): \(error)"], isGood: false) } }
    }

    private func report(_ number: Int, until deadline: MonotonicTime) -> Report? {
        reports.wait { $0[number] != nil || MonotonicTime.now >= deadline ? .done($0[number]) : .again(deadline) }
    }

    // MARK: Folders

    private static func folder(_ directory: String) -> Report {
        let began = MonotonicTime.now
        // `run` makes what is missing.
        var path = directory.absolutePath
        while path != "/", (try? FileStatus(of: path)) == nil { path = OpenFolder.parent(of: path) }
        do throws(SystemError) {
            try OpenFolder(path).tryWriting()
            let place = path == directory.absolutePath ? path : "\(path), where it will be made,"
            return Report(lines: ["data_dir: a file in \(printable(place)) was written and removed (\(milliseconds(since: began)))"])
        } catch { return Report(lines: ["data_dir: \(printable("\(error)"))"], isGood: false) }
    }

    // MARK: Receivers

    private static func receiver(_ entry: ReceiverConfig, _ path: String, _ folders: [String]) -> Report {
        let began = MonotonicTime.now
        let session: PluginSession
        do throws(PluginLibrary.LoadError) {
            let file = try entry.pluginName.find(in: folders)
            do throws(PluginInstance.StartError) {
                let facts = InstanceFacts(
                    receiver: entry.name, gatewayVersion: RunningGateway.version, maxInFlight: entry.maxInFlight,
                    deliveryTimeout: entry.deliveryTimeout, makeDirectory: { nil })
                session = try PluginSession(
                    isolated: file, entry.pluginConfig.text, references: entry.pluginConfig.wholeReferences, facts,
                    entry.isolation ?? ProcessIsolation())
            } catch { return Report(lines: ["\(path): \(printable(words(error)))"], isGood: false) }
        } catch { return Report(lines: ["\(path): \(printable("\(error)"))"], isGood: false) }
        defer { session.instance.destroy() }
        guard session.instance.identity.later.probe else {
            return Report(lines: ["\(path): not tried, because its plugin has no probe"])
        }
        // `check` has printed the messages of create as warnings already.
        let earlier = session.messages.count
        let token = session.probe()
        _ = session.open(of: [token], after: entry.deliveryTimeout)
        let (outcome, breach) = (session.outcome(of: token), session.breach)
        let failure: String? =
            if let outcome { outcome.status == .delivered ? nil : outcome.reason } else {
                breach ?? "the plugin has not finished after \(entry.deliveryTimeout.inWords)"
            }
        let time = milliseconds(since: began)
        let last = failure.map { "cannot deliver (\(time)): \($0)" } ?? "can deliver (\(time))"
        return Report(lines: (session.messages.dropFirst(earlier) + [last]).map { "\(path): \(printable($0))" }, isGood: failure == nil)
    }

    private static func milliseconds(since began: MonotonicTime) -> String {
        "\(MonotonicTime.now.since(began).inNanoseconds / 1_000_000) ms"
    }

    private static func words(_ error: PluginInstance.StartError) -> String {
        switch error {
        case .notLoaded(let reason): reason
        case .refused(let refusal): refusal.message
        case .ended(let end): "its process ended: \(end.how)"
        }
    }
}
