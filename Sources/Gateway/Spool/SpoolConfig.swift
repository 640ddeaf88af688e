/// The config's `spool` object: the settings of the journal under `data_dir`.
struct SpoolConfig: Equatable {
    /// The time at which written profiles are synced.
    enum Sync: String, CaseIterable, Sendable {
        /// Before the sender is answered.
        case always
        /// At the latest ``SpoolConfig/syncInterval`` after the write.
        case interval
        /// Whenever the operating system writes them back.
        case never
    }

    /// The most bytes of all segments together; nil leaves the limit to the receivers' own bounds.
    var maxBytes: Int?
    /// The bytes left free on the file system; nil for a twentieth of it, at most 1 GiB.
    var minFreeBytes: Int?
    var sync = Sync.always
    var syncInterval = Duration.seconds(1)
    /// The size beyond which a segment does not grow, except for a single request that is larger.
    var segmentBytes = 64 << 20

    /// The bytes to leave free on a file system of `total` bytes.
    func reserve(of total: Int) -> Int { minFreeBytes ?? min(total / 20, 1 << 30) }
}
