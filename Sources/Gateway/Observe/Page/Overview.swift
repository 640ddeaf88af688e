import HTTPServer
import LinuxSystem
import PluginHost
import ProfileAPI
import Receivers
import SpoolStore
import Synchronization
import Telemetry

/// What the page shows of the gateway at one moment.
struct Overview: Sendable {
    struct ListenerRow: Sendable {
        let name: String
        /// Host and port, or a Unix socket, in words.
        let address: String
        let host: String
        let port: UInt16
        let connections: Int
        let profiles: Int
        let bytes: Int
        /// The statuses of 400 and more that were answered, and the limits for which connections were refused, with their numbers.
        let refused: [(what: String, count: Int)]
        let forwardTo: [String]
        /// Profiles and bytes a second.
        var rates = (profiles: 0.0, bytes: 0.0)
    }

    struct ReceiverRow: Sendable {
        let picture: Receiver.Picture
        /// nil without `data_dir`.
        let deadLetters: Int?
        /// Deliveries a second, and how long one takes now, in seconds; nil when there was none lately.
        var rate = 0.0
        var latency: Double?

        var isFailing: Bool { picture.health == .failed }
    }

    let at = MonotonicTime.now
    let version = RunningGateway.version
    let configPath: String
    let isReady: Bool
    let startedAt: Int64
    let reload: ReloadStatus
    var listeners: [ListenerRow]
    var receivers: [ReceiverRow]
    let spool: (segments: Int, bytes: Int, failure: String?, unreadable: [(file: String, error: String)])?
    let memory: Int

    init(_ gateway: RunningGateway) {
        (configPath, isReady, startedAt) = (gateway.configPath, gateway.isReady, gateway.startedAt)
        reload = gateway.reloadStatus.withLock { $0 }
        let setup = gateway.setup.withLock { $0 }
        listeners = setup.runningListeners.map(ListenerRow.init)
        let letters = gateway.parts.deadLetters
        receivers = gateway.shownReceivers.map { ReceiverRow(picture: $0.picture, deadLetters: letters?.count(of: $0.name)) }
        spool = gateway.spool.map { ($0.size.segments, $0.size.bytes, $0.failure, $0.unreadable) }
        memory = ProcessMetrics.residentBytes
    }

    /// The rates since an earlier moment.
    mutating func rate(since marks: Marks) {
        let span = Double(at.nanoseconds - marks.at.nanoseconds) / 1e9
        guard span > 0 else { return }
        for index in listeners.indices {
            guard let before = marks.listeners[listeners[index].name] else { continue }
            let row = listeners[index]
            // After a reload a listener of the same name may count from 0 again.
            listeners[index].rates = (
                Double(max(0, row.profiles - before.profiles)) / span, Double(max(0, row.bytes - before.bytes)) / span
            )
        }
        for index in receivers.indices {
            let picture = receivers[index].picture
            guard let before = marks.receivers[picture.name] else { continue }
            receivers[index].rate = Double(max(0, picture.delivered - before.profiles)) / span
            let calls = picture.deliveries.count - before.calls
            if calls > 0 { receivers[index].latency = max(0, picture.deliveries.seconds - before.seconds) / Double(calls) }
        }
    }

    var marks: Marks {
        var marks = Marks(at: at)
        for row in listeners { marks.listeners[row.name] = Marks.Counts(profiles: row.profiles, bytes: row.bytes) }
        for row in receivers {
            let picture = row.picture
            marks.receivers[picture.name] = Marks.Counts(
                profiles: picture.delivered, calls: picture.deliveries.count, seconds: picture.deliveries.seconds)
        }
        return marks
    }

    var sample: Sample {
        var sample = Sample(at: at, memory: memory)
        for row in listeners { (sample.profiles, sample.bytes) = (sample.profiles + row.profiles, sample.bytes + row.bytes) }
        for row in receivers {
            let picture = row.picture
            sample.delivered += picture.delivered
            sample.failed += picture.deadLettered + picture.drops.reduce(0) { $0 + $1.count }
            sample.queued += picture.queuedProfiles
        }
        return sample
    }
}

extension Overview.ListenerRow {
    fileprivate init(_ running: RunningSetup.RunningListener) {
        let listener = running.listener
        name = listener.name
        address = AdminServer.place(listener.service.http.address.isEmpty ? "[::]" : listener.service.http.address, listener.port)
        (host, port, connections) = (listener.service.http.address, listener.port, listener.connectionCount)
        profiles = running.profiles.ingest.value + running.profiles.push.value
        bytes = listener.counters.bytes.value
        refused =
            listener.counters.answers.filter { $0.status >= 400 }.map { ("\($0.status) \(Response.reason($0.status))", $0.count) }
            + SenderLimit.allCases.compactMap { limit in
                let count = listener.counters.refused[limit]?.value ?? 0
                return count > 0 ? ("connections over \(limit.rawValue)", count) : nil
            }
        forwardTo = running.config.forwardTo
    }
}
