import Glibc
import LinuxSystem
import Profiles

/// The file that keeps sequences rising over restarts, even when the spool is empty and the clock was set back.
///
/// It contains a number that no earlier process has reached, and a check sum; each start reserves a range from that number on.
struct SequenceFile {
    static let name = "sequence"
    /// The size of a range: more profiles than one process can accept. Sequences are derived from nanoseconds, so a range is less
    /// than twenty minutes ahead of the clock.
    private static let piece: UInt64 = 1 << 40
    private static let size = 12

    private let folder: OpenFolder

    init(_ folder: OpenFolder) { self.folder = folder }

    init(_ directory: DataDirectory) throws(SystemError) { folder = try directory.root() }

    /// Reserves the next range; without a readable number in the file, the clock determines where it begins.
    ///
    /// - Returns: the file's new contents.
    /// - Throws: an error when the file cannot be read, and then it is unchanged, or when it cannot be written.
    func take() throws(SystemError) -> [UInt8] {
        if let taken = try read() { ReceivedProfile.continueSequence(after: taken) }
        var writer = LittleEndianWriter()
        writer.add(ReceivedProfile.sequenceToCome &+ Self.piece)
        writer.add(CRC32C.of(writer.bytes))
        let file = try folder.open(Self.name, O_WRONLY | O_CREAT, mode: 0o600)
        try unsafe file.writeAll(writer.bytes.span.bytes, at: 0)
        try file.synchronize()
        return writer.bytes
    }

    /// The number in the file; nil when it is missing or damaged.
    private func read() throws(SystemError) -> UInt64? {
        guard let bytes = try bytes(fromDisk: false) else { return nil }
        return unsafe bytes.withUnsafeBytes { buffer in
            var reader = unsafe LittleEndianReader(buffer)
            guard let number = reader.integer(UInt64.self), reader.integer(UInt32.self) == CRC32C.of(bytes, 0..<8) else { return nil }
            return number
        }
    }

    /// Reads the file's contents after its cached pages are dropped, so that the disk answers; empty when there is no file.
    func readFromDisk() throws(SystemError) -> [UInt8] { try bytes(fromDisk: true) ?? [] }

    private func bytes(fromDisk: Bool) throws(SystemError) -> [UInt8]? {
        do throws(SystemError) {
            let file = try folder.open(Self.name, O_RDONLY)
            if fromDisk { file.forgetCached() }
            return try file.read(Self.size, at: 0)
        } catch {
            if error.code == ENOENT { return nil }
            throw error
        }
    }
}
