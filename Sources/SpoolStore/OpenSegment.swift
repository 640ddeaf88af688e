import Glibc
import LinuxSystem
import Profiles

/// A profile encoded as a record.
struct EncodedRecord {
    let sequence: UInt64
    let time: Int64
    let receivers: [String]
    let share: ShareKey
    var origin: UInt64 = 0
    private let body: Body
    private let bodyLength: Int
    private let sum: UInt32

    private enum Body {
        /// With its encoded head, unless that is large: then it is encoded again while it is written, because a request's profiles
        /// may share memory that each record needs a copy of.
        case profile(ReceivedProfile, head: [UInt8]?)
        case copy([UInt8])
    }

    var byteCount: Int { SpoolRecord.headLength(receivers) + bodyLength }

    /// The most bytes of a profile's encoded head that are kept until it is written.
    private static let mostKept = 2048

    init(_ profile: ReceivedProfile, receivers: [String], time: Int64) {
        let head = profile.encodedHead
        var sum = CRC32C()
        unsafe sum.add(head.span.bytes)
        var length = head.count
        for index in 0..<profile.sampleCount {
            profile.withSample(index) { bytes in
                sum.add(bytes)
                length += bytes.byteCount
            }
        }
        (body, self.receivers, self.time) = (.profile(profile, head: head.count <= Self.mostKept ? head : nil), receivers, time)
        (sequence, share, self.sum, bodyLength) = (profile.sequence, profile.share, sum.value, length)
    }

    /// Copies a record of another segment, for the receivers that still need it.
    ///
    /// - Parameter shift: the difference from the other segment's clock to the new segment's clock, in nanoseconds.
    init(copying body: [UInt8], of record: SpoolRecord, from place: SpoolPosition, receivers: [String], shift: Int64) {
        (sequence, time, self.receivers) = (record.sequence, record.time.addingSaturated(shift), receivers)
        (origin, share) = (place.segment, place.share)
        (self.body, bodyLength, sum) = (.copy(body), body.count, record.bodySum)
    }

    fileprivate func head(_ salt: UInt64) -> [UInt8] {
        SpoolRecord(
            salt: salt, sequence: sequence, time: time, origin: origin, bodyLength: bodyLength, bodySum: sum, receivers: receivers
        ).encoded
    }

    fileprivate func withBody(_ body: (RawSpan) throws(SystemError) -> Void) throws(SystemError) {
        switch self.body {
        case .copy(let bytes): try body(unsafe bytes.span.bytes)
        case .profile(let profile, let head):
            let head = head ?? profile.encodedHead
            try body(unsafe head.span.bytes)
            for index in 0..<profile.sampleCount { try profile.withSample(index, body) }
        }
    }
}

/// The profiles of one request, encoded as records.
struct EncodedAppend {
    let append: SpoolAppend
    let records: [EncodedRecord]

    var profiles: [ReceivedProfile] { append.profiles }
    var byteCount: Int { records.reduce(0) { $0 + $1.byteCount } }

    /// - Parameter time: the time at which the request was accepted, Unix nanoseconds.
    init(_ append: SpoolAppend, time: Int64) {
        self.append = append
        records = append.profiles.map { EncodedRecord($0, receivers: append.receivers, time: time) }
    }
}

/// The segment that new records are written to.
final class OpenSegment {
    let header: SpoolHeader
    var number: UInt64 { header.segment }
    /// The size of the records file up to the end of the last published record.
    private(set) var size: Int
    private var written: Int
    private let records: FileDescriptor
    private let index: FileDescriptor
    private var indexSize: Int
    private(set) var isIndexWhole = true
    private let trust = SyncTrust()
    /// The folder, until the names of the files were synced.
    private var unsyncedFolder: OpenFolder?
    private var buffer = ByteBuffer()

    /// The size up to which small pieces are collected in the buffer before they are written.
    private static let bufferSize = 1 << 20
    /// The size from which a piece is written without a copy in the buffer: the copy costs more than a system call.
    private static let directSize = 64 << 10

    var isEmpty: Bool { size == header.size }

    /// - Parameter syncsNames: false when the names of the files are synced together with the first records.
    init(_ header: SpoolHeader, _ folder: SpoolFolder, syncsNames: Bool) throws(SystemError) {
        self.header = header
        let (head, indexHead) = (header.encoded(.records), header.encoded(.index))
        (size, written, indexSize) = (head.count, head.count, indexHead.count)
        records = try folder.open(header.segment, .records, O_WRONLY | O_CREAT | O_EXCL)
        do throws(SystemError) {
            try unsafe records.writeAll(head.span.bytes, at: 0)
            index = try folder.open(header.segment, .index, O_WRONLY | O_CREAT | O_EXCL)
            try unsafe index.writeAll(indexHead.span.bytes, at: 0)
            unsyncedFolder = try folder.directory.spool()
            if syncsNames { try syncNames() }
        } catch {
            folder.remove(header.segment)
            throw error
        }
    }

    /// Writes records after the last published one.
    func write(_ list: [EncodedRecord]) throws(SystemError) -> [IndexEntry] {
        written = size
        var entries: [IndexEntry] = []
        var offset = size
        for record in list {
            try add(record)
            var entry = IndexEntry(
                offset: UInt32(clamping: offset), length: UInt32(clamping: record.byteCount), sequence: record.sequence,
                time: record.time, receivers: mask(record.receivers), isCopy: record.origin != 0)
            entry.share = record.share
            entries.append(entry)
            offset += record.byteCount
        }
        try writeBuffer()
        return entries
    }

    private func mask(_ receivers: [String]) -> UInt64 {
        receivers.reduce(0) { mask, name in header.receivers.firstIndex(of: name).map { mask | 1 << UInt64($0) } ?? mask }
    }

    private func add(_ record: EncodedRecord) throws(SystemError) {
        try add(unsafe record.head(header.salt).span.bytes)
        try record.withBody { (bytes) throws(SystemError) in try add(bytes) }
    }

    private func add(_ bytes: RawSpan) throws(SystemError) {
        if bytes.byteCount >= Self.directSize {
            try writeBuffer()
            try records.writeAll(bytes, at: written)
            written += bytes.byteCount
        } else {
            try buffer.append(bytes)
            if buffer.count >= Self.bufferSize { try writeBuffer() }
        }
    }

    private func writeBuffer() throws(SystemError) {
        defer { buffer.removeAll() }
        try buffer.withBytes { (span) throws(SystemError) in try unsafe records.writeAll(span.bytes, at: written) }
        written += buffer.count
    }

    private func syncNames() throws(SystemError) {
        try unsyncedFolder?.synchronize()
        unsyncedFolder = nil
    }

    func synchronize() throws(SystemError) {
        try trust.synchronize(unsyncedFolder, records.number)
        unsyncedFolder = nil
    }

    /// Returns a sync of the records, the index or both, for another thread; the segment must be kept until that has ended.
    func sync(records isWanted: Bool, index isIndexWanted: Bool) -> SegmentSync {
        SegmentSync(
            folder: isWanted ? unsyncedFolder : nil, records: isWanted ? records.number : nil, index: isIndexWanted ? index.number : nil,
            trust: trust)
    }

    /// The names and the records that were written before a sync are durable now.
    func wasSynced() { unsyncedFolder = nil }

    /// Publishes the written records and adds them to the index. While the segment is open its entries are also in memory, so only
    /// a start reads this file; where it cannot be written, the start scans the records instead.
    func writeIndex(_ entries: [IndexEntry]) {
        size = written
        guard isIndexWhole else { return }
        let bytes = entries.encoded(seed: header.seed)
        do throws(SystemError) {
            try unsafe index.writeAll(bytes.span.bytes, at: indexSize)
            indexSize += bytes.count
        } catch { isIndexWhole = false }
    }

    /// Cuts off records that were written but not published, if the disk allows it.
    func discardUnpublished() {
        buffer.removeAll()
        // If this fails, a start finds these records after the last index entry, and also in the segment that they were written to
        // again.
        try? records.truncate(to: size)
        written = size
    }
}
