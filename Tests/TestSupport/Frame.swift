/// A body with an ID and known bytes: `pf|ID|LENGTH|` and that many bytes of a pattern.
///
/// `Servers/frames.py` reads them.
enum Frame {
    private static let period = 4096
    /// The repeated pattern is long enough to start at any place of the period.
    private static let pattern: [UInt8] = {
        var state: UInt32 = 1
        let bytes = (0..<period).map { _ in
            state = (state &* 1_103_515_245 &+ 12345) & 0x7FFF_FFFF
            return UInt8(truncatingIfNeeded: state >> 16)
        }
        return Array(repeatElement(bytes, count: 2 + (1 << 20) / period).joined())
    }()

    /// - Parameter size: the size of the whole body, up to 1 MiB.
    static func body(_ id: Int, size: Int) -> [UInt8] {
        var length = max(0, size - "pf|\(id)|\(size)|".utf8.count)
        if length > 1 << 20 { length = 1 << 20 }
        let start = id % period
        return Array("pf|\(id)|\(length)|".utf8) + pattern[start..<(start + length)]
    }

    /// The IDs of all bodies that begin somewhere in these bytes.
    static func ids(in bytes: [UInt8]) -> Set<Int> {
        var found: Set<Int> = []
        var position = 0
        while position + 4 < bytes.count {
            defer { position += 1 }
            guard bytes[position] == UInt8(ascii: "p"), bytes[position + 1] == UInt8(ascii: "f"), bytes[position + 2] == UInt8(ascii: "|")
            else { continue }
            let digits = bytes[(position + 3)...].prefix { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
            let end = digits.endIndex
            guard !digits.isEmpty, end < bytes.count, bytes[end] == UInt8(ascii: "|") else { continue }
            if let id = Int(String(decoding: digits, as: UTF8.self)) { found.insert(id) }
        }
        return found
    }
}
