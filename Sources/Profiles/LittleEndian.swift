package import PluginABI

/// Encodes the spool's binary formats: little-endian integers, and texts preceded by their length.
package struct LittleEndianWriter {
    package private(set) var bytes: [UInt8] = []

    /// - Parameter capacity: about how many bytes will be written.
    package init(capacity: Int = 96) { bytes.reserveCapacity(capacity) }

    // Not one generic function: it would not be specialized for other modules.
    package mutating func add(_ value: UInt8) { bytes.append(value) }
    package mutating func add(_ value: UInt16) { append(UInt64(value), byteCount: 2) }
    package mutating func add(_ value: UInt32) { append(UInt64(value), byteCount: 4) }
    package mutating func add(_ value: UInt64) { append(value, byteCount: 8) }
    package mutating func add(_ value: Int64) { append(UInt64(bitPattern: value), byteCount: 8) }

    private mutating func append(_ value: UInt64, byteCount: Int) {
        for place in 0..<byteCount { bytes.append(UInt8(truncatingIfNeeded: value >> (8 * UInt64(place)))) }
    }

    /// Adds a text of at most 4 GiB.
    package mutating func add(_ text: gw_slice) {
        unsafe add(UInt32(clamping: text.count))
        unsafe bytes.append(contentsOf: UnsafeBufferPointer(start: text.bytes, count: text.count))
    }

    package mutating func add(_ text: String) {
        add(UInt32(clamping: text.utf8.count))
        bytes.append(contentsOf: text.utf8)
    }

    /// - Parameter first: a further label that comes before them; nil for none.
    mutating func add(_ labels: UnsafeBufferPointer<gw_label>, after first: (name: String, value: gw_slice)? = nil) {
        unsafe add(UInt32(clamping: labels.count + (first == nil ? 0 : 1)))
        if let first = unsafe first {
            unsafe add(first.name)
            unsafe add(first.value)
        }
        unsafe labels.forEach { label in
            unsafe add(label.name)
            unsafe add(label.value)
        }
    }

    /// Removes what was written and keeps the memory.
    package mutating func removeAll() { bytes.removeAll(keepingCapacity: true) }

    package mutating func add(_ more: [UInt8]) { bytes += more }

    /// Writes a number over the four bytes at `offset`, which must have been written before.
    package mutating func set(_ value: UInt32, at offset: Int) {
        for index in 0..<4 { bytes[offset + index] = UInt8(truncatingIfNeeded: value >> (8 * UInt32(index))) }
    }
}

/// Decodes the spool's binary formats; every read beyond the end returns nil, whatever lengths the bytes claim.
@safe package struct LittleEndianReader {
    private let bytes: UnsafeRawBufferPointer
    package private(set) var offset: Int

    /// - Parameter bytes: borrowed; must stay valid as long as this value is used.
    package init(_ bytes: UnsafeRawBufferPointer, at offset: Int = 0) {
        unsafe self.bytes = unsafe bytes
        self.offset = offset
    }

    package var left: Int { unsafe bytes.count - offset }

    package mutating func integer<T: FixedWidthInteger>(_ type: T.Type = T.self) -> T? {
        let size = MemoryLayout<T>.size
        guard offset >= 0, left >= size else { return nil }
        defer { offset += size }
        return unsafe T(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: T.self))
    }

    /// Reads a text; nil when it is not valid UTF-8, because other bytes would change when the text is written again.
    ///
    /// - Parameter end: the offset by which the text must end; nil for the end of all bytes.
    package mutating func text(before end: Int? = nil) -> String? {
        guard let count = integer(UInt32.self).map(Int.init), count <= min(left, (end ?? .max) - offset) else { return nil }
        defer { offset += count }
        return unsafe String(validating: UnsafeRawBufferPointer(rebasing: bytes[offset..<(offset + count)]), as: UTF8.self)
    }

    /// Reads the number of items that follow, each of at least `smallest` bytes; nil when the rest of the bytes is too short for
    /// them.
    mutating func count(smallest: Int) -> Int? {
        guard let count = integer(UInt32.self).map(Int.init), count * smallest <= left else { return nil }
        return count
    }
}

/// Reads a little-endian integer; the caller has checked that the bytes exist.
package func littleEndian<T: FixedWidthInteger & BitwiseCopyable>(_ bytes: RawSpan, at offset: Int) -> T {
    T(littleEndian: unsafe bytes.unsafeLoadUnaligned(fromByteOffset: offset, as: T.self))
}
