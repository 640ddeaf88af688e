import Foundation

/// Config members for a spool.
enum SpoolMembers {
    /// How many deliveries of a receiver may be open in these tests.
    static let openDeliveries = 16
    static let inFlight = "\"max_in_flight\": \(openDeliveries),"

    /// - Parameter spool: members of `spool`.
    static func members(_ spool: String = "", folder: String = "data", more: String = "") -> String {
        "\"data_dir\": \"\(folder)\", \"spool\": { \(spool) }, \"shutdown_timeout\": \"1s\", \(more)"
    }

    /// A queue that only the disk limits.
    static func queue(_ onFull: String = "drop_oldest") -> String {
        "\"queue\": { \"max_bytes\": \"16GiB\", \"max_profiles\": 100000000, \"on_full\": \"\(onFull)\" },"
    }
}

extension Metrics {
    var spoolBytes: Int { self["gateway_spool_bytes"] }
    var spoolSegments: Int { self["gateway_spool_segments"] }
    var damagedRecords: Int { self["gateway_spool_damaged_records_total"] }
    var writeErrors: Int { self["gateway_spool_write_errors_total"] }
    var resident: Int { self["process_resident_memory_bytes"] }

    /// The reasons for which profiles of a receiver were dropped.
    func reasons(_ receiver: String) -> Set<String> {
        let prefix = "gateway_profiles_dropped_total{receiver=\"\(receiver)\",reason=\""
        let found = lines.filter { $0.hasPrefix(prefix) && !$0.hasSuffix(" 0") }
        return Set(found.map { String($0.dropFirst(prefix.count).prefix { $0 != "\"" }) })
    }
}

extension Scenario {
    /// Runs a program to its end.
    @discardableResult
    func run(_ arguments: String...) throws -> (status: Int32, output: [String]) {
        let process = try start(arguments)
        return (try process.waitForExit(), process.output.lines)
    }

    /// Runs a subcommand of the gateway with the config of this scenario.
    func gateway(_ arguments: String...) throws -> (status: Int32, output: [String]) {
        let process = try start([try Project.builtGateway()] + arguments + ["--config", path("gateway.json")])
        return (try process.waitForExit(), process.output.lines + process.errors.lines)
    }
}
