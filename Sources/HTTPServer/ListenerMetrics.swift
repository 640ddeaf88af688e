package import Telemetry

extension Listener {
    /// Adds what the listener counts to the page of `/metrics`.
    package func collect(into page: inout Exposition) {
        let labels = [MetricLabel(name: "listener", value: name)]
        page.add(.counter, "gateway_received_bytes_total", help: "Bytes of request bodies received.", labels, counters.bytes.value)
        for (status, count) in counters.answers {
            page.add(
                .counter, "gateway_requests_total", help: "Requests answered, by status.",
                labels + [MetricLabel(name: "status", value: "\(status)")], count)
        }
        if service.security.certificates != nil {
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

    /// Adds when the certificate that new connections are shown expires, where there is one.
    package func collectCertificate(into page: inout Exposition) {
        guard let certificates = service.security.certificates else { return }
        page.add(
            .gauge, "gateway_certificate_expiry_timestamp_seconds", help: "When the listener's certificate expires, Unix time.",
            [MetricLabel(name: "listener", value: name)], Int(certificates.context.certificateEnd))
    }
}
