import LinuxSystem
import Profiles

/// An entry of an index or `.settled` file: of fixed size, with a check sum of the other bytes in the last four.
protocol SpoolEntry: Sendable {
    static var size: Int { get }

    /// Decodes an entry whose computed check sum is `sum`; nil when it is damaged.
    init?(_ reader: inout LittleEndianReader, _ sum: UInt32)

    func encode(into writer: inout LittleEndianWriter, seed: UInt32)
}

extension LittleEndianWriter {
    /// Adds the check sum of all bytes from `start` on.
    fileprivate mutating func addSum(from start: Int, seed: UInt32) { add(CRC32C.of(bytes, start..<bytes.count, seed: seed)) }
}

extension [IndexEntry] {
    /// The entries as they follow each other in a file.
    func encoded(seed: UInt32) -> [UInt8] { encodedEntries(self, seed: seed) }
}

extension [SettledEntry] {
    /// The entries as they follow each other in a file.
    func encoded(seed: UInt32) -> [UInt8] { encodedEntries(self, seed: seed) }
}

private func encodedEntries<Entry: SpoolEntry>(_ entries: [Entry], seed: UInt32) -> [UInt8] {
    var writer = LittleEndianWriter(capacity: entries.count * Entry.size)
    for entry in entries { entry.encode(into: &writer, seed: seed) }
    return writer.bytes
}

extension SpoolEntry {
    func encoded(seed: UInt32) -> [UInt8] {
        var writer = LittleEndianWriter(capacity: Self.size)
        encode(into: &writer, seed: seed)
        return writer.bytes
    }

    /// Decodes all complete entries of `bytes` in order; a damaged one is passed as nil.
    static func decode(_ bytes: [UInt8], from start: Int, seed: UInt32, _ body: (Self?) -> Void) {
        unsafe bytes.withUnsafeBytes { buffer in
            for offset in stride(from: start, through: buffer.count - size, by: size) {
                let sum = CRC32C.of(bytes, offset..<(offset + size - 4), seed: seed)
                var reader = unsafe LittleEndianReader(buffer, at: offset)
                body(Self(&reader, sum))
            }
        }
    }

    /// Reads and decodes all complete entries of a file in order, piece by piece; a damaged one is passed as nil.
    ///
    /// - Parameter body: returns whether to continue.
    static func decode(
        _ file: borrowing FileDescriptor, from start: Int, seed: UInt32, _ body: (Self?) -> Bool
    ) throws(SystemError) {
        var left = largestFile
        try file.readPieces(from: start, unit: size) { piece in
            var goesOn = true
            decode(piece, from: 0, seed: seed) { if goesOn { goesOn = body($0) } }
            left -= piece.count
            return goesOn && left > 0
        }
    }

    /// The most bytes of entries that are read of a file: a sparse file may claim any 64-bit size, while segments have 32-bit
    /// offsets.
    static var largestFile: Int { 1 << 30 }
}

/// One entry of a segment's index: a record's position and receivers.
package struct IndexEntry: SpoolEntry, Equatable {
    static let size = 40

    package var offset: UInt32
    /// The size of the whole record, including its head.
    package var length: UInt32
    package var sequence: UInt64
    /// The time of acceptance, Unix nanoseconds.
    package var time: Int64
    /// A bit for each of the segment's receivers.
    var receivers: UInt64
    var isCopy: Bool = false
    /// The share of a queue that the profile counts against.
    var share = ShareKey.unknown

    var end: Int { Int(offset) + Int(length) }

    func encode(into writer: inout LittleEndianWriter, seed: UInt32) {
        let start = writer.bytes.count
        writer.add(offset)
        writer.add(length)
        writer.add(sequence)
        writer.add(time)
        writer.add(receivers)
        writer.add(UInt32(isCopy ? 1 : 0) | share.rawValue << 1)
        writer.addSum(from: start, seed: seed)
    }

    init?(_ reader: inout LittleEndianReader, _ sum: UInt32) {
        guard let offset = reader.integer(UInt32.self), let length = reader.integer(UInt32.self),
            let sequence = reader.integer(UInt64.self), let time = reader.integer(Int64.self),
            let receivers = reader.integer(UInt64.self), let flags = reader.integer(UInt32.self),
            reader.integer(UInt32.self) == sum, Self.isPossible(offset, length, sequence)
        else { return nil }
        self.init(offset: offset, length: length, sequence: sequence, time: time, receivers: receivers, isCopy: flags & 1 != 0)
        share = ShareKey(rawValue: flags >> 1)
    }

    /// Whether it has bits only for the first `count` receivers, the segment's; otherwise the receivers must be read from the
    /// record.
    func names(only count: Int) -> Bool { receivers & (UInt64.max << UInt64(count)) == 0 }

    /// Whether a record, or a region without one (sequence 0), can have this position: it must not be empty and must end below 4
    /// GiB.
    private static func isPossible(_ offset: UInt32, _ length: UInt32, _ sequence: UInt64) -> Bool {
        length >= (sequence == 0 ? 1 : UInt32(SpoolRecord.fixedSize)) && !offset.addingReportingOverflow(length).overflow
    }

    init(offset: UInt32, length: UInt32, sequence: UInt64, time: Int64, receivers: UInt64, isCopy: Bool = false) {
        (self.offset, self.length, self.sequence) = (offset, length, sequence)
        (self.time, self.receivers, self.isCopy) = (time, receivers, isCopy)
    }
}

/// One entry of a segment's `.settled` file.
struct SettledEntry: SpoolEntry, Equatable {
    static let size = 48

    enum Kind: UInt8, Sendable {
        /// The receiver no longer needs the records that begin in `offset ..< end`.
        case settled = 1
        /// The receiver's plugin has attempted the record at `offset`.
        case attempted = 2
    }

    var kind: Kind
    var receiver: UInt16
    var offset: UInt32
    var end: UInt32 = 0
    var attempt = SpoolAttempt()

    func encode(into writer: inout LittleEndianWriter, seed: UInt32) {
        let start = writer.bytes.count
        writer.add(kind.rawValue)
        writer.add(UInt8(0))
        writer.add(receiver)
        writer.add(offset)
        writer.add(end)
        writer.add(UInt32(clamping: attempt.count))
        writer.add(attempt.progress)
        writer.add(attempt.due)
        writer.add(attempt.owner)
        writer.add(UInt32(0))
        writer.addSum(from: start, seed: seed)
    }

    init?(_ reader: inout LittleEndianReader, _ sum: UInt32) {
        guard let kind = reader.integer(UInt8.self).flatMap(Kind.init), reader.integer(UInt8.self) != nil,
            let receiver = reader.integer(UInt16.self), let offset = reader.integer(UInt32.self),
            let end = reader.integer(UInt32.self), let count = reader.integer(UInt32.self),
            let progress = reader.integer(UInt64.self), let due = reader.integer(Int64.self),
            let owner = reader.integer(UInt64.self), reader.integer(UInt32.self) != nil,
            reader.integer(UInt32.self) == sum
        else { return nil }
        self.init(kind: kind, receiver: receiver, offset: offset, end: end)
        attempt = SpoolAttempt(count: Int(count), progress: progress, due: due, owner: owner)
    }

    init(kind: Kind, receiver: UInt16, offset: UInt32, end: UInt32 = 0, attempt: SpoolAttempt = SpoolAttempt()) {
        (self.kind, self.receiver, self.offset, self.end, self.attempt) = (kind, receiver, offset, end, attempt)
    }
}

/// A receiver's attempts at a profile that it has not settled.
package struct SpoolAttempt: Equatable, Sendable {
    /// The number of attempts that were begun.
    package var count = 0
    /// The plugin's progress value, which it gets back at the next attempt.
    package var progress: UInt64 = 0
    /// The earliest time of the next attempt, Unix nanoseconds.
    package var due: Int64 = 0
    /// A hash of plugin and config; the progress is meaningless to an instance with another hash.
    package var owner: UInt64 = 0

    package init(count: Int = 0, progress: UInt64 = 0, due: Int64 = 0, owner: UInt64 = 0) {
        self.count = count
        self.progress = progress
        self.due = due
        self.owner = owner
    }
}
