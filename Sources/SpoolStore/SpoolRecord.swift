import LinuxSystem
import Profiles

/// The head of a record: everything except the profile.
package struct SpoolRecord: Equatable {
    /// "GWRC"
    static let magic: UInt32 = 0x4352_5747
    /// The size of the head without the receivers' names.
    static let fixedSize = 56
    /// The most bytes that the receivers' names may take.
    static let maximumReceivers = 64 << 10

    var salt: UInt64
    var sequence: UInt64
    /// The time of acceptance, Unix nanoseconds.
    var time: Int64
    /// The segment that the record was copied from; 0 when it is not a copy.
    var origin: UInt64 = 0
    var bodyLength: Int
    var bodySum: UInt32
    var receivers: [String]

    /// The size of the head including the receivers' names.
    var headLength: Int { Self.headLength(receivers) }
    var length: Int { headLength + bodyLength }

    package static func headLength(_ receivers: [String]) -> Int { receivers.reduce(fixedSize) { $0 + 4 + $1.utf8.count } }

    var encoded: [UInt8] {
        var writer = LittleEndianWriter(capacity: headLength)
        writer.add(Self.magic)
        // The check sum of what follows is known at the end.
        writer.add(UInt32(0))
        writer.add(salt)
        writer.add(sequence)
        writer.add(time)
        writer.add(origin)
        writer.add(UInt32(clamping: bodyLength))
        writer.add(bodySum)
        writer.add(UInt32(clamping: headLength - Self.fixedSize))
        writer.add(UInt32(0))
        for name in receivers { writer.add(name) }
        writer.set(CRC32C.of(writer.bytes, 8..<writer.bytes.count), at: 4)
        return writer.bytes
    }

    /// Decodes a head; nil when there is none or it is damaged.
    ///
    /// - Parameter salt: the segment's salt, if known; bytes that a sender chose are then rejected before any check sum is
    ///   computed.
    init?(_ bytes: RawSpan, at offset: Int, salt: UInt64? = nil) {
        let record = unsafe bytes.withUnsafeBytes { unsafe Self.decode($0, at: offset, salt) }
        guard let (record, sum) = record,
            CRC32C.of(bytes.extracting((offset + 8)..<(offset + record.headLength))) == sum
        else { return nil }
        self = record
    }

    private init(salt: UInt64, sequence: UInt64, time: Int64, origin: UInt64, bodyLength: Int, bodySum: UInt32) {
        (self.salt, self.sequence, self.time, self.origin) = (salt, sequence, time, origin)
        (self.bodyLength, self.bodySum, receivers) = (bodyLength, bodySum, [])
    }

    init(salt: UInt64, sequence: UInt64, time: Int64, origin: UInt64, bodyLength: Int, bodySum: UInt32, receivers: [String]) {
        self.init(salt: salt, sequence: sequence, time: time, origin: origin, bodyLength: bodyLength, bodySum: bodySum)
        self.receivers = receivers
    }

    private static func decode(_ bytes: UnsafeRawBufferPointer, at offset: Int, _ wanted: UInt64?) -> (SpoolRecord, sum: UInt32)? {
        var reader = unsafe LittleEndianReader(bytes, at: offset)
        guard reader.integer(UInt32.self) == magic, let sum = reader.integer(UInt32.self),
            let salt = reader.integer(UInt64.self), salt == wanted ?? salt,
            let sequence = reader.integer(UInt64.self), sequence != 0,
            let time = reader.integer(Int64.self), let origin = reader.integer(UInt64.self),
            let bodyLength = reader.integer(UInt32.self), let bodySum = reader.integer(UInt32.self),
            let namesLength = reader.integer(UInt32.self), reader.integer(UInt32.self) == 0,
            namesLength <= maximumReceivers && Int(namesLength) <= reader.left
        else { return nil }
        var record = SpoolRecord(
            salt: salt, sequence: sequence, time: time, origin: origin, bodyLength: Int(bodyLength), bodySum: bodySum)
        let end = reader.offset + Int(namesLength)
        while reader.offset < end, record.receivers.count < SpoolSegment.maximumReceivers, let name = reader.text(before: end) {
            record.receivers.append(name)
        }
        return reader.offset == end ? (record, sum) : nil
    }
}

/// The error for a record whose bytes differ from those that were written.
package struct DamagedRecord: Error, CustomStringConvertible {
    package let description: String

    package init(description: String) {
        self.description = description
    }
}

extension SpoolRecord {
    /// Checks and decodes a whole record.
    ///
    /// - Parameters:
    ///   - bytes: becomes the profile's storage.
    ///   - length: the record's size according to the index.
    static func profile(
        _ bytes: consuming ByteBuffer, length: Int, sequence: UInt64, isSalt: (UInt64) -> Bool
    ) throws(DamagedRecord) -> (record: SpoolRecord, profile: ReceivedProfile) {
        guard bytes.count == length else { throw DamagedRecord(description: "the file ends before it") }
        let record = bytes.withBytes { unsafe SpoolRecord($0.bytes, at: 0) }
        guard let record, record.length == length, record.sequence == sequence, isSalt(record.salt) else {
            throw DamagedRecord(description: "its head is damaged")
        }
        let sum = bytes.withBytes { unsafe CRC32C.of($0.bytes.extracting(record.headLength...)) }
        guard sum == record.bodySum, let profile = ReceivedProfile.decode(bytes, at: record.headLength, sequence: sequence) else {
            throw DamagedRecord(description: "its profile is damaged")
        }
        return (record, profile)
    }
}
