import Glibc
import LinuxSystem
import Telemetry

/// An open file whose name is removed, and whose blocks are still to be freed.
final class RemovedFile: Sendable {
    private let file: FileDescriptor
    /// The bytes that will be free; 0 when the file has another name.
    let byteCount: Int
    private static let step = 1 << 20

    /// - Parameter file: still has the name that is about to be removed.
    fileprivate init(_ file: consuming FileDescriptor) throws(SystemError) {
        // A sparse file may claim any size.
        byteCount = try file.linkCount() == 1 ? min(try file.size(), Int(UInt32.max)) : 0
        self.file = file
    }

    /// Frees the blocks in small steps: a sync of another file can wait for a step, on ext4 about 20 ms for 64 MiB at once.
    func free() {
        // A backup may have given it another name.
        guard let links = try? file.linkCount(), links == 0 else { return }
        for end in stride(from: byteCount - Self.step, through: 1, by: -Self.step) { try? file.truncate(to: end) }
        try? file.truncate(to: 0)
    }
}

/// The files of the spool in a data directory.
package struct SpoolFolder: Sendable {
    let directory: DataDirectory

    init(_ directory: DataDirectory) { self.directory = directory }

    func open(_ segment: UInt64, _ file: SpoolFormat.File, _ flags: Int32 = O_RDONLY) throws(SystemError) -> FileDescriptor {
        // Profiles may contain confidential data, so only the owner may read the files.
        try directory.spool().open(file.name(of: segment), flags, mode: 0o600)
    }

    /// The contents of the spool's folder.
    struct Listing {
        /// The segments in rising order, each with the files that exist.
        var segments: [(number: UInt64, files: Set<SpoolFormat.File>)] = []
        /// Names that do not belong to the spool.
        var foreign: [String] = []
        /// Names of the spool that belong to links, pipes, devices, sockets or folders instead of regular files.
        var special: [String] = []
        /// A number for the next segment: greater than the number of every existing name up to ``SpoolFormat/largestNumber``, and
        /// not in use itself.
        var nextNumber: UInt64 = 1

        var names: [String] { foreign + special }
    }

    /// Lists the folder; the remaining files of a segment whose removal was interrupted do not count as a segment.
    func list() throws(SystemError) -> Listing {
        let folder = try directory.spool()
        var segments: [UInt64: Set<SpoolFormat.File>] = [:]
        var numbers: Set<UInt64> = []
        var listing = Listing()
        for name in try folder.names() {
            guard let (segment, file) = SpoolFormat.File.parse(name) else {
                listing.foreign.append(name)
                Self.removed(name).map { _ = numbers.insert($0) }
                continue
            }
            numbers.insert(segment)
            // If the status cannot be read, the code that opens the file reports the error.
            if let status = try? folder.status(of: name), status.kind != .regular {
                listing.special.append(name)
            } else {
                segments[segment, default: []].insert(file)
            }
        }
        for name in listing.foreign { Self.removed(name).map { segments[$0] = nil } }
        listing.nextNumber = (numbers.filter { $0 <= SpoolFormat.largestNumber }.max() ?? 0) + 1
        while numbers.contains(listing.nextNumber) { listing.nextNumber += 1 }
        listing.segments = segments.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }
        listing.foreign.sort()
        listing.special.sort()
        return listing
    }

    /// The size of a segment's files, as far as it can be read; each file counts as 4 GiB at most, because a sparse file may claim
    /// any size.
    func byteCount(_ segment: UInt64) -> Int {
        guard let folder = try? directory.spool() else { return 0 }
        return SpoolFormat.File.allCases.reduce(0) {
            $0 + min((try? folder.status(of: $1.name(of: segment)))?.size ?? 0, Int(UInt32.max))
        }
    }

    // MARK: Removing

    private static let removedSuffix = ".tmp"

    /// Removes a segment's files; a failure is logged.
    ///
    /// The records file is renamed first, after which the segment no longer exists: a crash in between must leave neither an index
    /// whose records seem lost, nor records whose settled entries are lost.
    ///
    /// - Parameter release: takes the records file, whose blocks the file system frees when it is closed; that takes about 20 ms for
    ///   64 MiB. Without it they are freed here.
    /// - Returns: false when files of the segment are left.
    @discardableResult
    func remove(_ segment: UInt64, release: ((RemovedFile) -> Void)? = nil) -> Bool {
        let records = SpoolFormat.File.records.name(of: segment)
        do throws(SystemError) {
            let folder = try directory.spool()
            do throws(SystemError) { try folder.rename(records, to: records + Self.removedSuffix) } catch {
                guard error.code == ENOENT else { throw error }
            }
            for file in [SpoolFormat.File.index, .settled] { try folder.remove(file.name(of: segment)) }
            let file = release == nil ? nil : try? RemovedFile(folder.open(records + Self.removedSuffix, O_WRONLY))
            try folder.remove(records + Self.removedSuffix)
            if let file { release?(file) }
            return true
        } catch {
            Log.error("cannot remove a segment of the spool", ["segment": records, "error": "\(error)"])
            return false
        }
    }

    /// Finishes the removal of segments that a crash interrupted.
    func finishRemovals() throws(SystemError) {
        for segment in try directory.spool().names().compactMap(Self.removed) { remove(segment) }
    }

    /// The number of the segment whose removal gave its records file this name; nil for any other name.
    static func removed(_ name: String) -> UInt64? {
        guard let found = temporary(name), found.file == .records else { return nil }
        return found.segment
    }

    /// Whether a name belongs to an index that was being written when its process ended; such a file is not needed, for the index
    /// is rebuilt.
    static func isUnfinished(_ name: String) -> Bool { temporary(name)?.file == .index }

    private static func temporary(_ name: String) -> (segment: UInt64, file: SpoolFormat.File)? {
        name.hasSuffix(removedSuffix) ? SpoolFormat.File.parse(String(name.dropLast(removedSuffix.count))) : nil
    }

    // MARK: Quarantine

    /// The limits of the quarantine folder.
    private static let quarantineLimit = (files: 1000, bytes: 256 << 20)

    /// Copies damaged bytes to the quarantine folder for inspection, if there is room; errors are ignored because nothing depends
    /// on the copy.
    func quarantine(_ segment: UInt64, at offset: Int, count: Int) {
        let name = "\(SpoolFormat.File.records.name(of: segment)).\(offset)"
        do throws(SystemError) {
            let quarantine = try directory.made("quarantine")
            guard try Self.hasRoom(quarantine, for: count) else { return }
            let bytes = try open(segment, .records).read(min(count, Self.quarantineLimit.bytes), at: offset)
            let file = try quarantine.open(name, O_WRONLY | O_CREAT | O_EXCL, mode: 0o600)
            try unsafe file.writeAll(bytes.span.bytes)
        } catch { Log.debug("nothing put into quarantine", ["file": name, "error": "\(error)"]) }
    }

    /// Moves a file of any kind to the quarantine folder, without replacing an existing one.
    ///
    /// - Parameter folder: the folder that the file is in; nil for the spool's.
    func quarantine(_ name: String, from folder: OpenFolder? = nil) {
        do throws(SystemError) {
            let quarantine = try directory.made("quarantine")
            var (free, number) = (name, 1)
            while try quarantine.status(of: free) != nil { (free, number) = ("\(name).\(number)", number + 1) }
            let folder = if let folder { folder } else { try directory.spool() }
            try folder.rename(name, to: free, in: quarantine)
        } catch { Log.error("cannot move to quarantine", ["file": name, "error": "\(error)"]) }
    }

    private static func hasRoom(_ quarantine: OpenFolder, for count: Int) throws(SystemError) -> Bool {
        let names = try quarantine.names()
        var size = count
        for name in names { size = size.addingSaturated(try quarantine.status(of: name)?.size ?? 0) }
        return names.count < quarantineLimit.files && size <= quarantineLimit.bytes
    }
}
