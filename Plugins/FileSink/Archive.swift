import Glibc
import LinuxSystem
import PluginKit

/// Why a profile could not be archived.
enum ArchiveError: Error {
    /// A file of that name is there, with other bytes.
    case conflict(path: String)
    case system(SystemError)
    /// The gateway does not wait any longer.
    case aborted
}

/// A directory of profiles, by tenant, service and hour.
///
///     <tenant>/<service>/2026/01/31/23/20260131T235959.123456789Z-<sequence>[-<index>].<format>
///
/// with the metadata of a profile in a `.json` of the same name.
struct Archive: Sendable {
    let directory: String

    init(_ directory: String) { self.directory = directory }

    /// Where one profile goes: its folder, relative to the directory, and its file names without the ending.
    struct Place: Equatable {
        let folder: String
        let name: String
    }

    static func place(of profile: Profile) -> Place {
        let time = CivilTime(unixNanoseconds: profile.receivedAt)
        let (year, month, day) = (CivilTime.pad(time.date.year, 4), CivilTime.pad(time.date.month), CivilTime.pad(time.date.day))
        let (hour, minute, second) = (CivilTime.pad(time.hour), CivilTime.pad(time.minute), CivilTime.pad(time.second))
        let tenant = FileName.component(profile.tenant, ifEmpty: "anonymous")
        let service = FileName.component(profile.label("service_name") ?? "", ifEmpty: "unknown_service")
        return Place(
            folder: "\(tenant)/\(service)/\(year)/\(month)/\(day)/\(hour)",
            name: "\(year)\(month)\(day)T\(hour)\(minute)\(second).\(CivilTime.pad(time.nanosecond, 9))Z-\(profile.sequence)")
    }

    /// The ending that tells a file's format; a multipart body is kept as it came, so it is none of the formats itself.
    static func ending(of profile: Profile) -> String {
        let format = profile.format == "speedscope" ? "speedscope.json" : profile.format
        return profile.contentType.contains("multipart/form-data") ? "\(format).multipart" : format
    }

    func path(_ relative: String) -> String { relative.isEmpty ? directory : "\(directory)/\(relative)" }

    /// A folder, its parents up to the archive's own directory, and the folder that names that one: what must be synced before
    /// anything in the folder is sure to be found after a crash.
    func lineage(of relative: String) -> [String] {
        var folders = [Self.parent(of: directory), directory]
        for part in relative.split(separator: "/") { folders.append("\(folders[folders.count - 1])/\(part)") }
        return folders
    }

    /// Makes a folder and its parents.
    func makeFolder(_ relative: String) throws(SystemError) {
        let path = path(relative)
        if unsafe mkdir(path, 0o755) == 0 { return }
        switch errno {
        case EEXIST where Self.isFolder(path): return
        case ENOENT:
            let parent = Self.parent(of: path)
            guard parent != path else { throw SystemError("mkdir \(path)", code: ENOENT) }
            try Archive(parent).makeFolder("")
            guard unsafe mkdir(path, 0o755) == 0 || errno == EEXIST else { throw SystemError("mkdir \(path)") }
        case let code: throw SystemError("mkdir \(path)", code: code == EEXIST ? ENOTDIR : code)
        }
    }

    private static func isFolder(_ path: String) -> Bool {
        var status = stat()
        return unsafe stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
    }

    private static func parent(of path: String) -> String {
        guard let slash = path.lastIndex(of: "/") else { return "." }
        return slash == path.startIndex ? "/" : String(path[..<slash])
    }
}

/// Names made of what the network sent.
enum FileName {
    /// The longest name that is used as it is, in bytes.
    static let limit = 200

    /// A text as one path component that leaves no folder: bytes outside `A-Za-z0-9._-` and a leading dot become `%XX`; what is longer than
    /// the limit is cut and ends in its hash.
    static func component(_ text: String, ifEmpty fallback: String) -> String {
        if text.isEmpty { return fallback }
        var name = ""
        for (index, byte) in text.utf8.enumerated() {
            if isPlain(byte), !(index == 0 && byte == UInt8(ascii: ".")) {
                name.unicodeScalars.append(Unicode.Scalar(byte))
            } else {
                let digits = String(byte, radix: 16, uppercase: true)
                name += "%" + (digits.count == 1 ? "0" : "") + digits
            }
        }
        guard name.utf8.count > limit else { return name }
        let hash = SHA256.hex(of: Array(text.utf8)).prefix(32)
        return name.prefix(limit - 33) + "-" + hash
    }

    private static func isPlain(_ byte: UInt8) -> Bool {
        (48...57 ~= byte) || (65...90 ~= byte & 0xDF) || [UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "-")].contains(byte)
    }
}
