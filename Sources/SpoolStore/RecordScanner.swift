import Glibc
import LinuxSystem
import Profiles

/// Finds a segment's records without its index, including those after damaged bytes.
struct RecordScanner: ~Copyable {
    private static let windowSize = 4 << 20

    private let file: FileDescriptor
    let size: Int
    /// The salt that records must have; nil accepts any.
    private let salt: UInt64?
    private var window: [UInt8] = []
    private var windowStart = 0
    /// The number of bytes of damaged heads that may still be check-summed; without a limit, a file made of such heads would take
    /// hours.
    private var patience: Int

    init(_ file: consuming FileDescriptor, salt: UInt64?) throws(SystemError) {
        // Offsets have 32 bits, and segments are much smaller than that.
        size = min(try file.size(), Int(UInt32.max))
        patience = 64 * size
        self.file = file
        self.salt = salt
    }

    /// Returns the head of the record at `offset`; nil when there is none.
    mutating func record(at offset: Int) throws(SystemError) -> SpoolRecord? {
        try load(offset, atLeast: SpoolRecord.fixedSize + SpoolRecord.maximumReceivers)
        return parse(at: offset)
    }

    private func parse(at offset: Int) -> SpoolRecord? {
        guard let record = unsafe SpoolRecord(window.span.bytes, at: offset - windowStart, salt: salt) else { return nil }
        // Offsets have 32 bits, so a record that ends beyond them was never written.
        return offset + record.length <= Int(UInt32.max) ? record : nil
    }

    /// The number of bytes that were check-summed to reject a head: 1 if its beginning already shows that it is none.
    private func cost(at offset: Int) -> Int {
        let span = unsafe window.span.bytes
        let start = offset - windowStart
        guard start + SpoolRecord.fixedSize <= span.byteCount, littleEndian(span, at: start) == SpoolRecord.magic else { return 1 }
        let found: UInt64 = littleEndian(span, at: start + 8)
        guard salt == nil || found == salt else { return 1 }
        return SpoolRecord.fixedSize + min(SpoolRecord.maximumReceivers, Int(littleEndian(span, at: start + 48) as UInt32))
    }

    /// Returns the offset of the first record at or after `offset`; the end of the file when there is none.
    mutating func nextRecord(from offset: Int) throws(SystemError) -> Int {
        var offset = offset
        while offset < size {
            try load(offset, atLeast: SpoolRecord.fixedSize + SpoolRecord.maximumReceivers)
            let end = windowStart + window.count
            // The file has been truncated meanwhile.
            guard end > offset else { return size }
            // A head may begin near the end of the window and continue beyond it, so the last bytes are searched in the next
            // window.
            let last = end == size ? end : max(offset + 1, end - SpoolRecord.fixedSize - SpoolRecord.maximumReceivers)
            while let place = find(from: offset, to: last) {
                if parse(at: place) != nil { return place }
                patience -= cost(at: place)
                guard patience > 0 else { return size }
                offset = place + 1
            }
            offset = last
        }
        return size
    }

    /// Returns the offset of the next byte in a part of the window that equals a head's first byte.
    private func find(from start: Int, to end: Int) -> Int? {
        unsafe window.withUnsafeBytes { buffer -> Int? in
            guard start < end, let base = buffer.baseAddress else { return nil }
            let from = unsafe base + (start - windowStart)
            guard let found = unsafe memchr(from, Int32(SpoolRecord.magic & 0xFF), end - start) else { return nil }
            return unsafe start + (UnsafeRawPointer(found) - from)
        }
    }

    private mutating func load(_ offset: Int, atLeast count: Int) throws(SystemError) {
        let end = min(offset + count, size)
        if offset >= windowStart, end <= windowStart + window.count { return }
        window = try file.read(min(Self.windowSize, max(0, size - offset)), at: offset)
        windowStart = offset
    }
}
