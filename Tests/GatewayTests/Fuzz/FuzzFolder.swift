import Glibc
import LinuxSystem

/// A folder for one input, in memory if the system has such a place, which is removed with this value.
struct FuzzFolder: ~Copyable {
    let folder: OpenFolder
    var path: String { folder.path }

    private static let place = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp"

    init() {
        var template = Array("\(Self.place)/gateway-fuzz-XXXXXX\0".utf8CString)
        guard mkdtemp(&template) != nil else { fatalError("no folder for an input") }
        let path = String(decoding: template.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        folder = must { () throws(SystemError) in try OpenFolder(path) }
    }

    deinit { Self.remove(path) }

    private static func remove(_ path: String) {
        guard let listing = try? FolderListing(path) else { return }
        for name in listing.files { unlink("\(path)/\(name)") }
        for name in listing.folders { remove("\(path)/\(name)") }
        rmdir(path)
    }

    /// Writes a file, with the folders that its path names.
    func write(_ name: String, _ bytes: [UInt8]) {
        must { () throws(SystemError) in
            let parts = name.pathComponents
            let parent = try folder.make(parts.dropLast().joined(separator: "/"), mode: FileMode(0o700), isSynced: false)
            let file = try parent.open(parts.last ?? name, O_WRONLY | O_CREAT | O_TRUNC, mode: 0o600)
            try file.writeAll(bytes.span.bytes)
        }
    }
}

/// Returns the result of a call that can fail only for lack of memory or descriptors.
func must<R>(_ body: () throws(SystemError) -> R) -> R {
    do throws(SystemError) { return try body() } catch { fatalError("\(error)") }
}

/// An input whose little-endian numbers are read and whose check sums are corrected, because a fuzzer does not guess them.
struct FuzzBytes {
    var bytes: [UInt8]

    /// The number of `size` bytes at an offset; 0 when the input does not have it.
    func number(_ offset: Int, _ size: Int) -> Int {
        guard offset >= 0, offset + size <= bytes.count else { return 0 }
        return bytes[offset..<(offset + size)].reversed().reduce(0) { ($0 & 0x7F_FFFF_FFFF_FFFF) << 8 | Int($1) }
    }

    /// Writes the check sum of a range at an offset, if the input has both.
    mutating func sum(_ range: Range<Int>, at offset: Int, seed: UInt32 = 0) {
        guard range.upperBound <= bytes.count, offset + 4 <= bytes.count else { return }
        let sum = CRC32C.of(bytes, range, seed: seed)
        for index in 0..<4 { bytes[offset + index] = UInt8(truncatingIfNeeded: sum >> (8 * UInt32(index))) }
    }

    /// Corrects the check sums of entries of one size, each at its entry's end.
    mutating func sumEntries(from start: Int, size: Int, seed: UInt32) {
        for offset in stride(from: start, through: bytes.count - size, by: size) {
            sum(offset..<(offset + size - 4), at: offset + size - 4, seed: seed)
        }
    }
}
