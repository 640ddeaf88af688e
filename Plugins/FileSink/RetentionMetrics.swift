import PluginABI
import PluginKit

/// The metrics of an archive with bounds.
struct RetentionMetrics {
    /// Why a profile was removed.
    enum Reason: String, CaseIterable { case maxAge = "max_age", maxBytes = "max_bytes", maxFiles = "max_files" }

    private let bytes: GatewayHost.Metric
    private let files: GatewayHost.Metric
    private let removedProfiles: [Reason: GatewayHost.Metric]
    private let removedBytes: GatewayHost.Metric

    init(_ host: GatewayHost) {
        bytes = host.metric(.gauge, "gateway_file_archive_bytes", help: "What the archive's files have.")
        files = host.metric(.gauge, "gateway_file_archive_files", help: "Files of the archive.")
        removedBytes = host.metric(
            .counter, "gateway_file_removed_bytes_total", help: "What the files had that were removed to keep the archive's bounds.")
        removedProfiles = Dictionary(
            uniqueKeysWithValues: Reason.allCases.map { reason in
                let labels = [("reason", reason.rawValue)] as [(name: String, value: String)]
                let help = "Profiles that were removed to keep the archive's bounds."
                return (reason, host.metric(.counter, "gateway_file_removed_profiles_total", help: help, labels: labels))
            })
    }

    func holds(bytes: Int, files: Int) {
        self.bytes.observe(Int64(bytes))
        self.files.observe(Int64(files))
    }

    func removed(_ reason: Reason, bytes: Int) {
        removedProfiles[reason]?.observe(1)
        removedBytes.observe(Int64(bytes))
    }
}
