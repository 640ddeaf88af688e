import Glibc
import LinuxSystem

/// Keeps sequences rising over restarts, also when the spool is empty and the clock was set back.
///
/// The file has a number that no process before has reached, and its check sum; each start takes a piece from there on.
struct SequenceFile {
    /// A piece: more profiles than one process can take, and as nanoseconds less than twenty minutes ahead of the clock.
    private static let piece: UInt64 = 1 << 40

    private let path: String

    init(_ path: String) { self.path = path }

    /// Goes on behind what was taken before. Without the file the clock has to do.
    func take() {
        if let taken = read() { Profile.continueSequence(after: taken) }
        do throws(SystemError) { try write(Profile.sequenceToCome &+ Self.piece) } catch {
            Log.warning("sequences are sure to rise over a restart only by the clock", ["error": "\(error)"])
        }
    }

    private func read() -> UInt64? {
        guard let bytes = try? FileDescriptor.open(path, O_RDONLY | O_NOFOLLOW).read(12, at: 0) else { return nil }
        return unsafe bytes.withUnsafeBytes { buffer in
            var reader = unsafe LittleEndianReader(buffer)
            guard let number = reader.integer(UInt64.self), reader.integer(UInt32.self) == CRC32C.of(bytes, 0..<8) else { return nil }
            return number
        }
    }

    private func write(_ number: UInt64) throws(SystemError) {
        var writer = LittleEndianWriter()
        writer.add(number)
        writer.add(CRC32C.of(writer.bytes))
        let file = try FileDescriptor.open(path, O_WRONLY | O_CREAT | O_NOFOLLOW, mode: 0o600)
        try unsafe file.writeAll(writer.bytes.span.bytes, at: 0)
        try file.synchronize()
    }
}
