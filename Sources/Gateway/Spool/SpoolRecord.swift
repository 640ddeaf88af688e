import LinuxSystem

/// The head of one record: everything but the profile.
struct SpoolRecord: Equatable {
    /// "GWRC"
    static let magic: UInt32 = 0x4352_5747
    /// Without the receivers.
    static let fixedSize = 56
    /// The most bytes that the receivers' names may take.
    static let maximumReceivers = 64 << 10

    var salt: UInt64
    var sequence: UInt64
    /// When it was accepted, Unix nanoseconds.
    var time: Int64
    /// The segment it was copied from, 0 when from none.
    var origin: UInt64 = 0
    var bodyLength: Int
    var bodySum: UInt32
    var receivers: [String]

    /// The bytes of the head and of the receivers.
    var headLength: Int { Self.headLength(receivers) }
    var length: Int { headLength + bodyLength }

    static func headLength(_ receivers: [String]) -> Int { receivers.reduce(fixedSize) { $0 + 4 + $1.utf8.count } }

    var encoded: [UInt8] {
        var names = LittleEndianWriter()
        for name in receivers { names.add(name) }
        var summed = LittleEndianWriter()
        for value in [salt, sequence, UInt64(bitPattern: time), origin] { summed.add(value) }
        for value in [UInt32(clamping: bodyLength), bodySum, UInt32(names.bytes.count), 0] { summed.add(value) }
        summed.add(names.bytes)
        var writer = LittleEndianWriter()
        writer.add(Self.magic)
        writer.add(CRC32C.of(summed.bytes))
        writer.add(summed.bytes)
        return writer.bytes
    }

    /// Reads a head; nil when there is none, or a damaged one.
    ///
    /// - Parameter salt: that of the segment, where it is known: bytes that a sender chose cost little more than a look then.
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

/// Why a record's bytes are not those that were written.
struct DamagedRecord: Error, CustomStringConvertible {
    let description: String
}

extension SpoolRecord {
    /// Takes a whole record apart, after checking all of it.
    ///
    /// - Parameters:
    ///   - bytes: becomes the profile's storage.
    ///   - length: how many bytes the index says it has.
    static func profile(
        _ bytes: consuming ByteBuffer, length: Int, sequence: UInt64, isSalt: (UInt64) -> Bool
    ) throws(DamagedRecord) -> (record: SpoolRecord, profile: Profile) {
        guard bytes.count == length else { throw DamagedRecord(description: "the file ends before it") }
        let record = bytes.withBytes { unsafe SpoolRecord($0.bytes, at: 0) }
        guard let record, record.length == length, record.sequence == sequence, isSalt(record.salt) else {
            throw DamagedRecord(description: "its head is damaged")
        }
        let sum = bytes.withBytes { unsafe CRC32C.of($0.bytes.extracting(record.headLength...)) }
        guard sum == record.bodySum, let profile = Profile.decode(bytes, at: record.headLength, sequence: sequence) else {
            throw DamagedRecord(description: "its profile is damaged")
        }
        return (record, profile)
    }
}
