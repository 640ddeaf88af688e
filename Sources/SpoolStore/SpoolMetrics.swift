import ConfigJSON
package import Telemetry

extension Spool {
    /// Adds what the spool counts to the page of `/metrics`.
    package func collect(into page: inout Exposition) {
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
    package var statusObject: String {
        let (segments, bytes) = size
        let unreadable = unreadable.map { "{\"file\":\(JSONValue.quoted($0.file)),\"error\":\(JSONValue.quoted($0.error))}" }
        return """
            {"segments":\(segments),"bytes":\(bytes),"failure":\(JSONValue.quoted(failure ?? "")),\
            "unreadable":[\(unreadable.joined(separator: ","))]}
            """
    }
}
