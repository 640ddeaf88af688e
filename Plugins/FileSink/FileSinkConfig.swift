import ConfigJSON
import Glibc
import LinuxSystem
import ProfileArchive

/// What the config of a FileSink says.
struct FileSinkConfig: Sendable {
    let directory: String
    let modes: ArchiveModes
    /// Older profiles are removed; nil keeps them.
    let maxAge: Duration?
    /// The oldest profiles are removed beyond this; nil is no bound.
    let maxBytes: Int?
    /// As `maxBytes`, of files: a profile has two at least.
    let maxFiles: Int?
    /// What is left free on the file system; nil is a tenth of it, 2 GiB at most, which is twice what the spool leaves.
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

    /// Whether anything is ever removed.
    var isBounded: Bool { maxAge != nil || maxBytes != nil || maxFiles != nil }

    /// What is left free on a file system of `total` bytes.
    func reserve(of total: Int) -> Int { minFreeBytes ?? min(total / 10, 2 << 30) }

    /// Why so many bytes more are too many for the file system; nil when they are not, or that cannot be known.
    func lackOfRoom(for bytes: Int, in archive: Archive) -> SystemError? {
        guard let space = try? archive.open().space() else { return nil }
        let reserve = reserve(of: space.total)
        // Some file systems do not say how large they are.
        guard space.total > 0, reserve > 0 else { return nil }
        guard space.available.subtractingReportingOverflow(bytes).partialValue < reserve else { return nil }
        return SystemError("fewer than min_free_bytes \(reserve) would be left free where \(directory) is", code: ENOSPC)
    }
}
