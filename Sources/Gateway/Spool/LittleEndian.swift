import PluginABI

/// Bytes of the spool's files being put together: integers least significant byte first, texts with their length before them.
struct LittleEndianWriter {
    private(set) var bytes: [UInt8] = []

    mutating func add<T: FixedWidthInteger>(_ value: T) {
        unsafe withUnsafeBytes(of: value.littleEndian) { unsafe bytes.append(contentsOf: $0) }
    }

    /// A text of at most 4 GiB.
    mutating func add(_ text: gw_slice) {
        unsafe add(UInt32(clamping: text.count))
        unsafe bytes.append(contentsOf: UnsafeBufferPointer(start: text.bytes, count: text.count))
    }

    mutating func add(_ text: String) {
        add(UInt32(clamping: text.utf8.count))
        bytes.append(contentsOf: text.utf8)
    }

    mutating func add(_ labels: UnsafeBufferPointer<gw_label>) {
        add(UInt32(clamping: labels.count))
        unsafe labels.forEach { label in
            unsafe add(label.name)
            unsafe add(label.value)
        }
    }

    mutating func add(_ more: [UInt8]) { bytes += more }
}

/// Bytes of the spool's files being taken apart; what is not there reads as nil, whatever the bytes say.
@safe struct LittleEndianReader {
    private let bytes: UnsafeRawBufferPointer
    private(set) var offset: Int

    /// - Parameter bytes: borrowed; valid as long as this value.
    init(_ bytes: UnsafeRawBufferPointer, at offset: Int = 0) {
        unsafe self.bytes = unsafe bytes
        self.offset = offset
    }

    var left: Int { unsafe bytes.count - offset }

    mutating func integer<T: FixedWidthInteger>(_ type: T.Type = T.self) -> T? {
        let size = MemoryLayout<T>.size
        guard offset >= 0, left >= size else { return nil }
        defer { offset += size }
        return unsafe T(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: T.self))
    }

    /// A text of UTF-8; anything else would be another text when it is written again.
    ///
    /// - Parameter end: where it ends at the latest; the end of all bytes when nil.
    mutating func text(before end: Int? = nil) -> String? {
        guard let count = integer(UInt32.self).map(Int.init), count <= min(left, (end ?? .max) - offset) else { return nil }
        defer { offset += count }
        return unsafe String(validating: UnsafeRawBufferPointer(rebasing: bytes[offset..<(offset + count)]), as: UTF8.self)
    }

    /// How many items follow, each of at least `smallest` bytes: no more than there is room for.
    mutating func count(smallest: Int) -> Int? {
        guard let count = integer(UInt32.self).map(Int.init), count * smallest <= left else { return nil }
        return count
    }
}
