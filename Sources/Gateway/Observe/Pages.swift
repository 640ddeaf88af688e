import ConfigJSON
import Glibc
import HTTPServer
import LinuxSystem
import PluginHost
import ProfileAPI
import Receivers
import SpoolStore
import Synchronization
import Telemetry

extension RunningGateway {
    /// The page of `/metrics`.
    var metricsPage: String {
        var page = Exposition()
        page.add(
            .gauge, "gateway_build_info", help: "The version that runs; always 1.", [MetricLabel(name: "version", value: Self.version)], 1)
        let reload = reloadStatus.withLock { $0 }
        page.add(
            .gauge, "gateway_config_last_reload_successful", help: "1 when what runs is what the config said when it was last read.",
            [], reload.isSuccessful ? 1 : 0)
        page.add(
            .gauge, "gateway_config_last_reload_success_timestamp_seconds", help: "When the config that runs was read, Unix time.", [],
            Double(reload.successAt) / 1e9)
        for listener in listeners {
            listener.collect(into: &page)
            collectProfiles(of: listener.name, into: &page)
            page.add(
                .counter, "gateway_requests_deduplicated_total", help: "Requests that got the answer of an identical one.",
                [MetricLabel(name: "listener", value: listener.name)], memories.deduplicated(of: listener.name))
        }
        for receiver in shownReceivers { receiver.collect(into: &page) }
        if let deadLetters { for receiver in shownReceivers { deadLetters.collect(receiver.name, into: &page) } }
        spool?.collect(into: &page)
        page.add(
            .counter, "gateway_log_lines_dropped_total", help: "Log lines dropped because standard error did not take them.", [],
            Log.droppedCount)
        Descriptors.process.collect(into: &page)
        ProcessMetrics.collect(startedAt: startedAt, into: &page)
        return page.text
    }

    private func collectProfiles(of listener: String, into page: inout Exposition) {
        guard let counters = setup.withLock({ $0.entrance(listener) })?.profiles else { return }
        for (api, counter) in [("ingest", counters.ingest), ("push", counters.push)] {
            page.add(
                .counter, "gateway_profiles_received_total", help: "Profiles received.",
                [MetricLabel(name: "listener", value: listener), MetricLabel(name: "api", value: api)], counter.value)
        }
    }

    /// The receivers, and those that were removed and still deliver; of several with one name only the first, because Prometheus
    /// would take them for one.
    private var shownReceivers: [Receiver] {
        let (receivers, leaving) = (receivers, leaving.withLock { $0 })
        var names = Set(receivers.map(\.name))
        return receivers + leaving.reversed().filter { names.insert($0.name).inserted }
    }

    /// The page of `/api/v1/status`, as JSON.
    var statusPage: String {
        let listeners = listeners.map { listener in
            "{\"name\":\(JSONValue.quoted(listener.name)),\"address\":\(JSONValue.quoted(listener.service.http.address)),\"port\":\(listener.port),\"connections\":\(listener.connectionCount)}"
        }
        let receivers = shownReceivers.map(\.statusObject)
        let reload = reloadStatus.withLock { $0 }.statusObject
        return """
            {"version":\(JSONValue.quoted(Self.version)),"config":\(JSONValue.quoted(configPath)),"ready":\(isReady),"reload":\(reload),\
            "listeners":[\(listeners.joined(separator: ","))],"receivers":[\(receivers.joined(separator: ","))],\
            "spool":\(spool?.statusObject ?? "null")}

            """
    }
}

extension Listener {
    fileprivate func collect(into page: inout Exposition) {
        let labels = [MetricLabel(name: "listener", value: name)]
        page.add(.counter, "gateway_received_bytes_total", help: "Bytes of request bodies received.", labels, counters.bytes.value)
        for (status, count) in counters.answers {
            page.add(
                .counter, "gateway_requests_total", help: "Requests answered, by status.",
                labels + [MetricLabel(name: "status", value: "\(status)")], count)
        }
        if service.guards.certificates != nil {
            page.add(
                .counter, "gateway_tls_handshake_errors_total", help: "TLS handshakes that failed.", labels, counters.failedHandshakes.value
            )
        }
        page.add(
            .counter, "gateway_connections_closed_for_room_total",
            help: "Connections without a request that were closed to make room for another one.", labels, counters.madeRoom.value)
        for limit in SenderLimit.allCases {
            page.add(
                .counter, "gateway_connections_refused_total", help: "Connections that were too many, by the limit that they met.",
                labels + [MetricLabel(name: "limit", value: limit.rawValue)], counters.refused[limit]?.value ?? 0)
        }
        page.add(.gauge, "pyroscope_receive_http_tcp_connections", help: "Connections open now.", labels, connectionCount)
        page.add(.gauge, "pyroscope_receive_http_tcp_connections_limit", help: "conn_limit; 0 is none.", labels, service.http.connLimit)
    }
}

extension ReloadStatus {
    fileprivate var statusObject: String {
        let problems = problems.map(JSONValue.quoted).joined(separator: ",")
        let time = JSONValue.quoted(CivilTime(unixNanoseconds: at).rfc3339)
        return "{\"successful\":\(isSuccessful),\"at\":\(time),\"problems\":[\(problems)]}"
    }
}

extension DeadLetters {
    fileprivate func collect(_ receiver: String, into page: inout Exposition) {
        let labels = [MetricLabel(name: "receiver", value: receiver)]
        page.add(.gauge, "gateway_dead_letters", help: "Dead letters that are kept.", labels, count(of: receiver))
        page.add(.gauge, "gateway_dead_letter_bytes", help: "Bytes of the dead letters that are kept.", labels, bytes(of: receiver))
        page.add(
            .counter, "gateway_dead_letters_removed_total", help: "Dead letters removed to keep their bounds.", labels,
            removed(of: receiver))
    }
}

extension Spool {
    fileprivate func collect(into page: inout Exposition) {
        let (segments, bytes) = size
        page.add(.gauge, "gateway_spool_segments", help: "Segments of the spool.", [], segments)
        page.add(.gauge, "gateway_spool_bytes", help: "Bytes of the spool's files.", [], bytes)
        page.add("gateway_spool_sync_seconds", help: "How long syncs of the spool took.", [], syncTime)
        page.add(.counter, "gateway_spool_write_errors_total", help: "Writes and syncs that failed.", [], writeErrors.value)
        page.add(
            .counter, "gateway_spool_damaged_records_total", help: "Damaged records and files, each counted where it was found.",
            [], damagedRecords.value)
        page.add(
            .gauge, "gateway_spool_unreadable_segments", help: "Segments that cannot be read now, left as they are and tried again.",
            [], unreadable.count)
    }

    /// The spool on the status page; `failure` says why profiles cannot be stored now.
    fileprivate var statusObject: String {
        let (segments, bytes) = size
        let unreadable = unreadable.map { "{\"file\":\(JSONValue.quoted($0.file)),\"error\":\(JSONValue.quoted($0.error))}" }
        return """
            {"segments":\(segments),"bytes":\(bytes),"failure":\(JSONValue.quoted(failure ?? "")),\
            "unreadable":[\(unreadable.joined(separator: ","))]}
            """
    }
}

extension Receiver {
    fileprivate func collect(into page: inout Exposition) {
        let labels = [MetricLabel(name: "receiver", value: name)]
        let (account, queued, bytes, health) = state.withLock { ($0.account, $0.queuedCount, $0.queuedBytes, $0.health.0) }
        page.add(.counter, "gateway_profiles_accepted_total", help: "Profiles taken into the receiver's queue.", labels, account.accepted)
        page.add(
            .counter, "gateway_profiles_recovered_total", help: "Profiles that the spool held at the start.", labels, account.recovered)
        page.add(.counter, "gateway_profiles_delivered_total", help: "Profiles delivered.", labels, account.delivered)
        for reason in DropReason.allCases {
            page.add(
                .counter, "gateway_profiles_dropped_total", help: "Profiles dropped, by the rule that did it.",
                labels + [MetricLabel(name: "reason", value: reason.rawValue)], account.dropped[reason] ?? 0)
        }
        page.add(
            .counter, "gateway_profiles_dead_lettered_total", help: "Profiles put with the dead letters.", labels, account.deadLettered)
        page.add(.counter, "gateway_retries_total", help: "Deliveries that ended in a retry.", labels, account.retries)
        page.add(.gauge, "gateway_queue_profiles", help: "Profiles queued, open deliveries included.", labels, queued)
        page.add(.gauge, "gateway_queue_bytes", help: "Bytes of the queued profiles.", labels, bytes)
        page.add("gateway_delivery_seconds", help: "How long deliveries took, from the call to the outcome.", labels, latency)
        page.add(
            .gauge, "gateway_receiver_health", help: "0 ok, 1 degraded, 2 failed.", labels,
            health == .ok ? 0 : health == .degraded ? 1 : 2)
        instance?.host.metrics.collect(receiver: name, into: &page)
    }

    /// This receiver on the status page.
    fileprivate var statusObject: String {
        let (health, queued, bytes, open, lastError) = state.withLock {
            ($0.health, $0.queuedCount, $0.queuedBytes, $0.serving?.openDeliveries ?? 0, $0.serving?.lastError ?? "")
        }
        let plugin = instance.map { "\($0.name) \($0.version)" } ?? config.plugin
        return """
            {"name":\(JSONValue.quoted(name)),"plugin":\(JSONValue.quoted(plugin)),"required":\(config.required),\
            "health":"\(health.0.rawValue)","reason":\(JSONValue.quoted(health.reason)),"queue_profiles":\(queued),\
            "queue_bytes":\(bytes),"open_deliveries":\(open),"last_error":\(JSONValue.quoted(lastError))}
            """
    }
}

/// The process metrics that Prometheus' own client libraries have.
private enum ProcessMetrics {
    static func collect(startedAt: Int64, into page: inout Exposition) {
        var usage = rusage()
        unsafe getrusage(RUSAGE_SELF.rawValue, &usage)
        let cpu = seconds(usage.ru_utime) + seconds(usage.ru_stime)
        page.add(.counter, "process_cpu_seconds_total", help: "User and system time spent.", [], cpu)
        page.add(.gauge, "process_start_time_seconds", help: "When the process started, Unix time.", [], Double(startedAt) / 1e9)
        let pages = (try? FileDescriptor.open("/proc/self/statm", O_RDONLY).readAll(limit: 4096)) ?? []
        let sizes = String(decoding: pages, as: UTF8.self).split(separator: " ").compactMap { Int($0) }
        if sizes.count > 1 {
            let pageSize = sysconf(Int32(_SC_PAGESIZE))
            page.add(.gauge, "process_virtual_memory_bytes", help: "Virtual memory.", [], sizes[0] * pageSize)
            page.add(.gauge, "process_resident_memory_bytes", help: "Resident memory.", [], sizes[1] * pageSize)
        }
        page.add(.gauge, "process_max_fds", help: "The limit of open descriptors.", [], descriptorLimit)
        page.add(.gauge, "process_open_fds", help: "Open descriptors.", [], openDescriptors())
    }

    private static func seconds(_ time: timeval) -> Double { Double(time.tv_sec) + Double(time.tv_usec) / 1e6 }

    private static func openDescriptors() -> Int {
        guard let folder = unsafe opendir("/proc/self/fd") else { return 0 }
        defer { unsafe closedir(folder) }
        var count = 0
        while unsafe readdir(folder) != nil { count += 1 }
        // ".", ".." and the descriptor that reads the folder.
        return count - 3
    }
}
