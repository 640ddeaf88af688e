import Glibc
import LinuxSystem

/// A segment's `.settled` file, open so that entries can be appended. Used by one thread.
struct SettledFile: ~Copyable {
    private let file: FileDescriptor
    private let header: SpoolHeader
    /// Where the next bytes go. A failed write leaves it, so that what was written of an entry is overwritten.
    private var end: Int

    var segment: UInt64 { header.segment }

    /// Opens the file, or creates it.
    init(_ header: SpoolHeader, in folder: SpoolFolder) throws(SystemError) {
        let file = try folder.open(header.segment, .settled, O_RDWR | O_CREAT)
        let (start, size) = (try folder.start(of: file, header), try file.size())
        // An incomplete last entry is overwritten, because it would shift those that follow.
        end = size < start ? 0 : start + (size - start) / SettledEntry.size * SettledEntry.size
        self.header = header
        self.file = file
    }

    /// Writes entries, after the file's header if it has none yet; returns the number of bytes written.
    mutating func append(_ entries: [SettledEntry]) throws(SystemError) -> Int {
        let encoded = entries.encoded(seed: header.seed)
        let bytes = end == 0 ? header.encoded(.settled) + encoded : encoded
        try unsafe file.writeAll(bytes.span.bytes, at: end)
        end += bytes.count
        return bytes.count
    }
}
