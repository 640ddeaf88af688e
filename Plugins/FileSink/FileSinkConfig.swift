import ConfigJSON
import Glibc
import LinuxSystem
import ProfileArchive

/// The config of a file receiver.
struct FileSinkConfig: Sendable {
    let directory: String
    let modes: ArchiveModes
    /// The age from which profiles are removed; nil keeps them.
    let maxAge: Duration?
    /// The bound in bytes; beyond it the oldest profiles are removed. nil means no bound.
    let maxBytes: Int?
    /// The bound in files; a profile has at least two. nil means no bound.
    let maxFiles: Int?
    /// The bytes to leave free on the file system; nil means a tenth of it, at most 2 GiB, which is twice what the spool leaves.
    let minFreeBytes: Int?

    init(_ object: ConfigObject) {
        directory = object.string("directory") ?? ""
        if directory.isEmpty { object.refuse("directory", "is required: the folder of the archive") }
        modes = ArchiveModes(object)
        maxAge = object.value("max_age") == nil ? nil : object.duration("max_age", default: .zero)
        maxBytes = object.value("max_bytes") == nil ? nil : object.size("max_bytes", default: .max)
        maxFiles = object.value("max_files") == nil ? nil : object.integer("max_files", in: 2...Int.max, default: .max)
        minFreeBytes = object.value("min_free_bytes") == nil ? nil : object.size("min_free_bytes", default: 0, zeroAllowed: true)
    }

    /// Whether profiles are ever removed.
    var isBounded: Bool { maxAge != nil || maxBytes != nil || maxFiles != nil }

    /// The bytes to leave free on a file system of `total` bytes.
    func reserve(of total: Int) -> Int { minFreeBytes ?? min(total / 10, 2 << 30) }

    /// Why the file system has no room for `bytes` more; nil when it has, or when that is unknown.
    func lackOfRoom(for bytes: Int, in archive: Archive) -> SystemError? {
        guard let space = try? archive.open().space() else { return nil }
        let reserve = reserve(of: space.total)
        // Some file systems do not report their size.
        guard space.total > 0, reserve > 0 else { return nil }
        guard space.available.subtractingReportingOverflow(bytes).partialValue < reserve else { return nil }
        return SystemError("fewer than min_free_bytes \(reserve) would be left free where \(directory) is", code: ENOSPC)
    }
}
