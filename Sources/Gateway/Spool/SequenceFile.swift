import Glibc
import LinuxSystem

/// Keeps sequences rising over restarts, also when the spool is empty and the clock was set back.
///
/// The file has a number that no process before has reached, and its check sum; each start takes a piece from there on.
struct SequenceFile {
    static let name = "sequence"
    /// A piece: more profiles than one process can take, and as nanoseconds less than twenty minutes ahead of the clock.
    private static let piece: UInt64 = 1 << 40
    private static let size = 12

    private let folder: OpenFolder

    init(_ folder: OpenFolder) { self.folder = folder }

    init(_ directory: DataDirectory) throws(SystemError) { folder = try directory.root() }

    /// Goes on behind what was taken before; without the file the clock has to do.
    ///
    /// - Returns: what is in the file now.
    /// - Throws: why the file cannot be read, and then it stays as it is; or why it cannot be written.
    func take() throws(SystemError) -> [UInt8] {
        if let taken = try read() { Profile.continueSequence(after: taken) }
        var writer = LittleEndianWriter()
        writer.add(Profile.sequenceToCome &+ Self.piece)
        writer.add(CRC32C.of(writer.bytes))
        let file = try folder.open(Self.name, O_WRONLY | O_CREAT, mode: 0o600)
        try unsafe file.writeAll(writer.bytes.span.bytes, at: 0)
        try file.synchronize()
        return writer.bytes
    }

    /// The number; nil when there is none, or a damaged one.
    private func read() throws(SystemError) -> UInt64? {
        guard let bytes = try bytes(fromDisk: false) else { return nil }
        return unsafe bytes.withUnsafeBytes { buffer in
            var reader = unsafe LittleEndianReader(buffer)
            guard let number = reader.integer(UInt64.self), reader.integer(UInt32.self) == CRC32C.of(bytes, 0..<8) else { return nil }
            return number
        }
    }

    /// What is in the file, as the disk says now; empty when there is no file.
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
