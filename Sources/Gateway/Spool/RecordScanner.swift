import Glibc
import LinuxSystem

/// Finds the records of a segment without its index, also behind bytes that are damaged.
struct RecordScanner: ~Copyable {
    private static let windowSize = 4 << 20

    private let file: FileDescriptor
    let size: Int
    /// nil takes any segment's records.
    private let salt: UInt64?
    private var window: [UInt8] = []
    private var windowStart = 0
    /// How many more bytes of heads that turn out to be damaged are summed up; a file made of such heads alone would take hours.
    private var patience: Int

    init(_ file: consuming FileDescriptor, salt: UInt64?) throws(SystemError) {
        // Offsets have 32 bits, and no segment comes near that.
        size = min(try file.size(), Int(UInt32.max))
        patience = 64 * size
        self.file = file
        self.salt = salt
    }

    /// The head of the record that begins at `offset`, or nil when none does.
    mutating func record(at offset: Int) throws(SystemError) -> SpoolRecord? {
        try load(offset, atLeast: SpoolRecord.fixedSize + SpoolRecord.maximumReceivers)
        return parse(at: offset)
    }

    private func parse(at offset: Int) -> SpoolRecord? {
        guard let record = unsafe SpoolRecord(window.span.bytes, at: offset - windowStart, salt: salt) else { return nil }
        // Places have 32 bits; a record that ends behind them was never written.
        return offset + record.length <= Int(UInt32.max) ? record : nil
    }

    /// How many bytes were summed up to see that a head is damaged; few where its beginning says that it is none.
    private func cost(at offset: Int) -> Int {
        let span = unsafe window.span.bytes
        let start = offset - windowStart
        guard start + SpoolRecord.fixedSize <= span.byteCount, littleEndian(span, at: start) == SpoolRecord.magic else { return 1 }
        let found: UInt64 = littleEndian(span, at: start + 8)
        guard salt == nil || found == salt else { return 1 }
        return SpoolRecord.fixedSize + min(SpoolRecord.maximumReceivers, Int(littleEndian(span, at: start + 48) as UInt32))
    }

    /// Where the first record begins at or after `offset`; the end of the file when none does.
    mutating func nextRecord(from offset: Int) throws(SystemError) -> Int {
        var offset = offset
        while offset < size {
            try load(offset, atLeast: SpoolRecord.fixedSize + SpoolRecord.maximumReceivers)
            let end = windowStart + window.count
            // The file has become shorter meanwhile.
            guard end > offset else { return size }
            // A head may begin here and end behind the window, so the last bytes are looked at in the next one.
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

    /// Where the first byte of a head is, in a part of the window.
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
