/// Bounds on what senders may make the gateway hold.
package struct Limits: Equatable {
    /// The most bytes of one request's body, as received.
    package var maxBodySize = 64 << 20
    /// The most bytes a compressed Push may inflate to.
    package var maxDecompressedSize = 256 << 20
    /// The most bytes of all bodies that are being received and not queued yet.
    package var maxInFlightBytes = 512 << 20
    /// The most of these bytes for one tenant, or for one address where senders choose their tenant, while others need the rest.
    package var maxInFlightBytesPerSender = 128 << 20

    package init(
        maxBodySize: Int = 64 << 20, maxDecompressedSize: Int = 256 << 20, maxInFlightBytes: Int = 512 << 20,
        maxInFlightBytesPerSender: Int = 128 << 20
    ) {
        self.maxBodySize = maxBodySize
        self.maxDecompressedSize = maxDecompressedSize
        self.maxInFlightBytes = maxInFlightBytes
        self.maxInFlightBytesPerSender = maxInFlightBytesPerSender
    }
}

/// When a sender gets status 200.
package enum AckMode: String, CaseIterable, Sendable {
    /// When every receiver has the profile in its queue.
    case queued
    /// When every required receiver has settled, as in Alloy.
    case delivered
}
