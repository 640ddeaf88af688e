import Glibc
import LinuxSystem

/// The folders of the spool under `data_dir`.
struct SpoolFolder: Sendable {
    let folder: Folder
    let quarantine: Folder

    init(dataDirectory: String) {
        folder = Folder("\(dataDirectory)/spool")
        quarantine = Folder("\(dataDirectory)/quarantine")
    }

    func path(_ segment: UInt64, _ file: SpoolFormat.File) -> String { folder.path(of: file.name(of: segment)) }

    func open(_ segment: UInt64, _ file: SpoolFormat.File, _ flags: Int32 = O_RDONLY) throws(SystemError) -> FileDescriptor {
        // Profiles may say what only their senders should know.
        try FileDescriptor.open(path(segment, file), flags | O_NOFOLLOW, mode: 0o600)
    }

    /// The segments there are, in order, each with the files it has; and the names that are none.
    ///
    /// What is left of a segment that was being removed is no segment.
    func list() throws(SystemError) -> (segments: [(number: UInt64, files: Set<SpoolFormat.File>)], foreign: [String]) {
        var segments: [UInt64: Set<SpoolFormat.File>] = [:]
        var foreign: [String] = []
        for name in try folder.names() {
            if let (segment, file) = SpoolFormat.File.parse(name) {
                segments[segment, default: []].insert(file)
            } else {
                foreign.append(name)
            }
        }
        for name in foreign { Self.removed(name).map { segments[$0] = nil } }
        return (segments.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }, foreign.sorted())
    }

    // MARK: Removing

    private static let removedSuffix = ".tmp"

    /// Removes a segment's files.
    ///
    /// Once its records have another name it is none any more: a crash in between must not leave an index whose records seem
    /// lost, nor records that nobody is known to have settled.
    func remove(_ segment: UInt64) {
        let records = SpoolFormat.File.records.name(of: segment)
        do throws(SystemError) {
            let target = folder.path(of: records + Self.removedSuffix)
            guard unsafe rename(folder.path(of: records), target) == 0 || errno == ENOENT else { throw SystemError("rename \(records)") }
            for file in [SpoolFormat.File.index, .settled] { try folder.remove(file.name(of: segment)) }
            try folder.remove(records + Self.removedSuffix)
        } catch { Log.error("cannot remove a segment of the spool", ["segment": records, "error": "\(error)"]) }
    }

    /// Removes what a crash has left of segments that were being removed.
    func finishRemovals() throws(SystemError) {
        for segment in try folder.names().compactMap(Self.removed) { remove(segment) }
    }

    /// The segment that was being removed when its records were given that name.
    static func removed(_ name: String) -> UInt64? {
        guard name.hasSuffix(removedSuffix), let found = SpoolFormat.File.parse(String(name.dropLast(removedSuffix.count))),
            found.file == .records
        else { return nil }
        return found.segment
    }

    // MARK: Quarantine

    /// The most files and bytes that are kept of what is damaged.
    private static let quarantineLimit = (files: 1000, bytes: 256 << 20)

    /// Keeps a copy of damaged bytes for a person to look at, where there is room; never an error, for nothing depends on it.
    func quarantine(_ segment: UInt64, at offset: Int, count: Int) {
        let name = "\(SpoolFormat.File.records.name(of: segment)).\(offset)"
        do throws(SystemError) {
            guard try makeQuarantine(for: count) else { return }
            let bytes = try open(segment, .records).read(min(count, Self.quarantineLimit.bytes), at: offset)
            let file = try FileDescriptor.open(quarantine.path(of: name), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode: 0o600)
            try unsafe file.writeAll(bytes.span.bytes)
        } catch { Log.debug("nothing put into quarantine", ["file": name, "error": "\(error)"]) }
    }

    /// Moves a file there that is none of ours.
    func quarantine(_ name: String) {
        do throws(SystemError) {
            try quarantine.make(mode: 0o700)
            guard unsafe rename(folder.path(of: name), quarantine.path(of: name)) == 0 else { throw SystemError("rename \(name)") }
        } catch { Log.error("cannot move to quarantine", ["file": name, "error": "\(error)"]) }
    }

    private func makeQuarantine(for count: Int) throws(SystemError) -> Bool {
        try quarantine.make(mode: 0o700)
        let names = try quarantine.names()
        var size = count
        for name in names {
            var status = stat()
            if unsafe stat(quarantine.path(of: name), &status) == 0 { size += Int(status.st_size) }
        }
        return names.count < Self.quarantineLimit.files && size <= Self.quarantineLimit.bytes
    }
}
