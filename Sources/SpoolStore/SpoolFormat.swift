import LinuxSystem
import Profiles

/// The binary format of the spool's files, as described in `docs/spool-format.md`.
enum SpoolFormat {
    static let version: UInt32 = 1
    /// New segments are numbered after the largest existing number up to this one. A file with a larger number is read like any
    /// other, but numbering does not continue after it, because the numbers would run out.
    static let largestNumber = UInt64(Int64.max) / 2

    /// The three files of a segment.
    enum File: String, CaseIterable, Sendable {
        /// The profiles.
        case records
        /// The position and the receivers of each record.
        case index
        /// The records that receivers have settled, and their attempts at the others.
        case settled

        /// The first eight bytes.
        var magic: UInt64 {
            switch self {
            case .records: 0x314C_4F4F_5053_5747  // "GWSPOOL1"
            case .index: 0x3158_444E_4953_5747  // "GWSINDX1"
            case .settled: 0x314C_5445_5353_5747  // "GWSSETL1"
            }
        }

        func name(of segment: UInt64) -> String { "\(segment.sixteenDigits).\(rawValue)" }

        /// Parses a file name into the segment's number and the kind of file; nil when the name is not one of the spool's.
        static func parse(_ name: String) -> (segment: UInt64, file: File)? {
            let parts = name.split(separator: ".", omittingEmptySubsequences: false)
            guard parts.count == 2, parts[0].utf8.count == 16, let segment = UInt64(parts[0], radix: 16), segment <= UInt64(Int64.max),
                let file = File(rawValue: String(parts[1])),
                file.name(of: segment) == name
            else { return nil }
            return (segment, file)
        }
    }
}

/// The header of each of a segment's files.
struct SpoolHeader: Equatable {
    static let size = 64

    var segment: UInt64
    /// A random number, the same in all of a segment's files, so that a sender cannot craft a profile that parses as a record.
    var salt: UInt64
    var createdAt: Int64
    /// The receivers' names; index and settled entries refer to a receiver by its position in this list.
    var receivers: [String] = []

    enum Failure: Error, Equatable {
        /// The file is not of this format, or its header is damaged.
        case damaged
        /// Written by a later version of this program.
        case newer(UInt32)
    }

    func encoded(_ file: SpoolFormat.File) -> [UInt8] {
        var names = LittleEndianWriter()
        for name in receivers { names.add(name) }
        var fixed = LittleEndianWriter()
        fixed.add(file.magic)
        fixed.add(SpoolFormat.version)
        fixed.add(UInt32(receivers.count))
        for value in [segment, salt, UInt64(bitPattern: createdAt), 0] { fixed.add(value) }
        fixed.add(UInt32(names.bytes.count))
        fixed.add(CRC32C.of(names.bytes))
        fixed.add(UInt32(0))
        fixed.add(CRC32C.of(fixed.bytes))
        return fixed.bytes + names.bytes
    }

    /// Decodes the header at the beginning of a file.
    ///
    /// - Returns: the header and its length, including the receivers' names.
    static func decode(_ bytes: [UInt8], _ file: SpoolFormat.File) throws(Failure) -> (header: SpoolHeader, length: Int) {
        guard bytes.count >= size, CRC32C.of(bytes, 0..<(size - 4)) == integer(bytes, at: size - 4),
            integer(bytes, at: 0) == file.magic
        else { throw .damaged }
        let version: UInt32 = integer(bytes, at: 8)
        guard version <= SpoolFormat.version else { throw .newer(version) }
        let length = size + Int(integer(bytes, at: 48) as UInt32)
        guard bytes.count >= length, CRC32C.of(bytes, size..<length) == integer(bytes, at: 52) else {
            throw .damaged
        }
        var header = SpoolHeader(
            segment: integer(bytes, at: 16), salt: integer(bytes, at: 24), createdAt: integer(bytes, at: 32))
        let count: UInt32 = integer(bytes, at: 12)
        guard count <= SpoolSegment.maximumReceivers else { throw .damaged }
        header.receivers = names(bytes, count: Int(count))
        // Entries refer to receivers by position, so each name must occur once and keep its position when the header is written
        // again.
        guard header.receivers.count == Int(count), Set(header.receivers).count == Int(count), header.size == length else { throw .damaged }
        return (header, length)
    }

    private static func names(_ bytes: [UInt8], count: Int) -> [String] {
        unsafe bytes.withUnsafeBytes { buffer in
            var reader = unsafe LittleEndianReader(buffer, at: size)
            var names: [String] = []
            while names.count < count, let name = reader.text() { names.append(name) }
            return names
        }
    }

    private static func integer<T: FixedWidthInteger>(_ bytes: [UInt8], at offset: Int) -> T {
        unsafe bytes.withUnsafeBytes { buffer in
            var reader = unsafe LittleEndianReader(buffer, at: offset)
            return reader.integer() ?? 0
        }
    }

    /// The size of the encoded header in bytes, including the receivers' names; the same in all three files.
    var size: Int { receivers.reduce(Self.size) { $0 + 4 + $1.utf8.count } }

    /// The seed of the entries' check sums, so that they are valid for this segment only.
    var seed: UInt32 { UInt32(truncatingIfNeeded: salt) }
}
