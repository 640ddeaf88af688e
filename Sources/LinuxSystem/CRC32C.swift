import CLinux

/// CRC-32C (Castagnoli, RFC 3720 appendix B.4), the checksum of data on disk.
public struct CRC32C: Sendable {
    private var state: UInt32

    /// - Parameter seed: 0 gives the standard checksum.
    public init(seed: UInt32 = 0) { state = ~seed }

    /// The checksum of the bytes added so far.
    public var value: UInt32 { ~state }

    /// Adds bytes to the checksum, with the processor's own instruction where it has one.
    public mutating func add(_ bytes: RawSpan) {
        unsafe bytes.withUnsafeBytes { buffer in
            if Self.isInHardware {
                state = unsafe clinux_crc32c(state, buffer.baseAddress, buffer.count)
            } else {
                unsafe addByTable(buffer)
            }
        }
    }

    /// The checksum of one span.
    public static func of(_ bytes: RawSpan, seed: UInt32 = 0) -> UInt32 {
        var sum = CRC32C(seed: seed)
        sum.add(bytes)
        return sum.value
    }

    /// The checksum of a part of an array; of all of it without `range`.
    public static func of(_ bytes: [UInt8], _ range: Range<Int>? = nil, seed: UInt32 = 0) -> UInt32 {
        unsafe of(bytes.span.bytes.extracting(range ?? 0..<bytes.count), seed: seed)
    }

    private static let isInHardware = clinux_has_crc32c() != 0

    /// Eight tables of 256 entries, to process eight bytes in one step: table k is for a byte followed by k zero bytes.
    private static let tables: [UInt32] = {
        var tables = [UInt32](repeating: 0, count: 8 * 256)
        for byte in 0..<256 {
            var sum = UInt32(byte)
            for _ in 0..<8 { sum = sum >> 1 ^ (sum & 1 == 1 ? 0x82F6_3B78 : 0) }
            tables[byte] = sum
        }
        for index in 256..<tables.count {
            let shorter = tables[index - 256]
            tables[index] = shorter >> 8 ^ tables[Int(shorter & 0xFF)]
        }
        return tables
    }()

    mutating func addByTable(_ bytes: UnsafeRawBufferPointer) {
        let tables = Self.tables
        var sum = state
        var offset = 0
        while bytes.count - offset >= 8 {
            let word = unsafe UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self)) ^ UInt64(sum)
            sum = 0
            for step in 0..<8 { sum ^= tables[(7 - step) << 8 | Int(word >> (8 * UInt64(step)) & 0xFF)] }
            offset += 8
        }
        while offset < bytes.count {
            sum = sum >> 8 ^ tables[Int(UInt8(truncatingIfNeeded: sum) ^ (unsafe bytes[offset]))]
            offset += 1
        }
        state = sum
    }
}
