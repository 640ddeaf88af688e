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
                [MetricLabel(name: "listener", value: listener.name)], parts.memories.deduplicated(of: listener.name))
        }
        collectCertificates(into: &page)
        for receiver in shownReceivers { receiver.collect(into: &page) }
        if let deadLetters = parts.deadLetters { for receiver in shownReceivers { deadLetters.collect(receiver.name, into: &page) } }
        spool?.collect(into: &page)
        page.add(
            .counter, "gateway_log_lines_dropped_total", help: "Log lines dropped because standard error did not take them.", [],
            Log.droppedCount)
        Descriptors.process.collect(into: &page)
        ProcessMetrics.collect(startedAt: startedAt, into: &page)
        return page.text
    }

    /// Adds the certificates of the listeners and of the admin listener; `admin` is the latter where no listener has that name.
    private func collectCertificates(into page: inout Exposition) {
        var names = Set<String>()
        for listener in setup.withLock({ $0.allListeners }) where names.insert(listener.name).inserted {
            listener.collectCertificate(into: &page)
        }
    }

    private func collectProfiles(of listener: String, into page: inout Exposition) {
        guard let counters = setup.withLock({ $0.running(listener) })?.profiles else { return }
        for (api, counter) in [("ingest", counters.ingest), ("push", counters.push)] {
            page.add(
                .counter, "gateway_profiles_received_total", help: "Profiles received.",
                [MetricLabel(name: "listener", value: listener), MetricLabel(name: "api", value: api)], counter.value)
        }
    }

    /// The receivers, and those that were removed and still deliver; of several with one name only the first, because Prometheus
    /// would take them for one.
    var shownReceivers: [Receiver] {
        let (receivers, leaving) = (receivers, leaving.withLock { $0 })
        var names = Set(receivers.map(\.name))
        return receivers + leaving.reversed().filter { names.insert($0.name).inserted }
    }

    /// The page of `/api/v1/status`, as JSON.
    var statusPage: String {
        let overview = page.overview(self)
        let listeners = overview.listeners.map(\.statusObject)
        let receivers = overview.receivers.map(\.statusObject)
        let reload = reloadStatus.withLock { $0 }.statusObject
        return """
            {"version":\(JSONValue.quoted(Self.version)),"config":\(JSONValue.quoted(configPath)),"ready":\(isReady),"reload":\(reload),\
            "listeners":[\(listeners.joined(separator: ","))],"receivers":[\(receivers.joined(separator: ","))],\
            "spool":\(spool?.statusObject ?? "null"),"memory_bytes":\(overview.memory)}

            """
    }
}

extension Overview.ListenerRow {
    fileprivate var statusObject: String {
        let refused = refused.map { "\(JSONValue.quoted($0.what)):\($0.count)" }.joined(separator: ",")
        return """
            {"name":\(JSONValue.quoted(name)),"address":\(JSONValue.quoted(host)),"port":\(port),"connections":\(connections),\
            "profiles":\(profiles),"bytes":\(bytes),"profiles_per_second":\(rates.profiles),"bytes_per_second":\(rates.bytes),\
            "refused":{\(refused)}}
            """
    }
}

extension Overview.ReceiverRow {
    fileprivate var statusObject: String {
        let letters = deadLetters.map { "\($0)" } ?? "null"
        let seconds = latency.map { "\($0)" } ?? "null"
        return picture.statusObject(",\"dead_letters\":\(letters),\"deliveries_per_second\":\(rate),\"latency_seconds\":\(seconds)")
    }
}

extension ReloadStatus {
    fileprivate var statusObject: String {
        let problems = problems.map(JSONValue.quoted).joined(separator: ",")
        let time = JSONValue.quoted(CivilTime(unixNanoseconds: at).rfc3339)
        return "{\"successful\":\(isSuccessful),\"at\":\(time),\"problems\":[\(problems)]}"
    }
}

/// The process metrics that Prometheus' own client libraries have.
enum ProcessMetrics {
    fileprivate static func collect(startedAt: Int64, into page: inout Exposition) {
        var usage = rusage()
        unsafe getrusage(RUSAGE_SELF.rawValue, &usage)
        let cpu = seconds(usage.ru_utime) + seconds(usage.ru_stime)
        page.add(.counter, "process_cpu_seconds_total", help: "User and system time spent.", [], cpu)
        page.add(.gauge, "process_start_time_seconds", help: "When the process started, Unix time.", [], Double(startedAt) / 1e9)
        if let memory {
            page.add(.gauge, "process_virtual_memory_bytes", help: "Virtual memory.", [], memory.virtual)
            page.add(.gauge, "process_resident_memory_bytes", help: "Resident memory.", [], memory.resident)
        }
        page.add(.gauge, "process_max_fds", help: "The limit of open descriptors.", [], descriptorLimit)
        page.add(.gauge, "process_open_fds", help: "Open descriptors.", [], openDescriptors())
    }

    /// The resident memory; 0 when it is not known.
    static var residentBytes: Int { memory?.resident ?? 0 }

    private static var memory: (virtual: Int, resident: Int)? {
        let pages = (try? FileDescriptor.open("/proc/self/statm", O_RDONLY).readAll(limit: 4096)) ?? []
        let sizes = String(decoding: pages, as: UTF8.self).split(separator: " ").compactMap { Int($0) }
        let pageSize = sysconf(Int32(_SC_PAGESIZE))
        return sizes.count > 1 ? (sizes[0] * pageSize, sizes[1] * pageSize) : nil
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
