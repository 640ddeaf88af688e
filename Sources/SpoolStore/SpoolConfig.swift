/// The config's `spool` object: the settings of the journal under `data_dir`.
package struct SpoolConfig: Equatable {
    /// The time at which written profiles are synced.
    package enum Sync: String, CaseIterable, Sendable {
        /// Before the sender is answered.
        case always
        /// ``SpoolConfig/syncInterval`` after the write, or when the sync that runs then has ended.
        case interval
        /// Whenever the operating system writes them back.
        case never
    }

    /// The most bytes of all segments together; nil leaves the limit to the receivers' own bounds.
    package var maxBytes: Int?
    /// The bytes left free on the file system; nil for a twentieth of it, at most 1 GiB.
    package var minFreeBytes: Int?
    package var sync = Sync.always
    package var syncInterval = Duration.seconds(1)
    /// The size beyond which a segment does not grow, except for a single request that is larger.
    package var segmentBytes = 64 << 20
    /// How long little of the oldest segment is needed before that is copied forward; not a setting of the config.
    package var copyDelay = Duration.seconds(10)

    package init(
        maxBytes: Int? = nil, minFreeBytes: Int? = nil, sync: Sync = Sync.always, syncInterval: Duration = Duration.seconds(1),
        segmentBytes: Int = 64 << 20
    ) {
        self.maxBytes = maxBytes
        self.minFreeBytes = minFreeBytes
        self.sync = sync
        self.syncInterval = syncInterval
        self.segmentBytes = segmentBytes
    }

    /// The bytes to leave free on a file system of `total` bytes.
    package func reserve(of total: Int) -> Int { minFreeBytes ?? min(total / 20, 1 << 30) }
}

/// What happens to a profile that finds a receiver's queue full.
package enum OnFull: String, CaseIterable, Sendable {
    /// The oldest waiting profiles are dropped to make room.
    case dropOldest = "drop_oldest"
    /// The sender gets 503 and no receiver gets the profile; a receiver that is not required just drops it.
    case reject
}
