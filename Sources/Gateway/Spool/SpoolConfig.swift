/// The `spool` of a config: how the journal under `data_dir` is kept.
struct SpoolConfig: Equatable {
    /// When what was written is made durable.
    enum Sync: String, CaseIterable, Sendable {
        /// Before it is answered.
        case always
        /// Each ``SpoolConfig/syncInterval``.
        case interval
        /// When the system pleases.
        case never
    }

    /// The most bytes of all segments; nil leaves it to the receivers' own bounds.
    var maxBytes: Int?
    /// What is left free on the file system; nil is a twentieth of it, 1 GiB at most.
    var minFreeBytes: Int?
    var sync = Sync.always
    var syncInterval = Duration.seconds(1)
    /// A segment is closed before it grows beyond this, but for the request that is larger.
    var segmentBytes = 64 << 20

    /// What is left free on a file system of `total` bytes.
    func reserve(of total: Int) -> Int { minFreeBytes ?? min(total / 20, 1 << 30) }
}
