import Glibc
import LinuxSystem
import Profiles

/// A generation of accepted requests on disk: a header of 32 bytes, followed by records of fixed size.
///
///     magic u64 | version u32 | 0 u32 | created i64 | salt u32 | CRC-32C u32        the sums of records begin with the salt
///     accepted i64 | until i64 | listener u32 | key 32 bytes | CRC-32C u32 …        little-endian, Unix times in nanoseconds
struct RequestFile: ~Copyable {
    static let version: UInt32 = 1
    static let headerSize = 32
    private static let magic: UInt64 = 0x3154_5345_5551_5247  // "GRQUEST1"
    private static let suffix = ".requests"

    let number: UInt64
    let createdAt: Int64
    /// The number of records in the file, including damaged ones.
    private(set) var count: Int
    private let salt: UInt32
    private let file: FileDescriptor

    enum Failure: Error {
        /// The file is not of this format, or its header is damaged.
        case damaged
        /// Written by a later version of this program.
        case newer(UInt32)
        /// The name belongs to a link, pipe, socket, device or folder.
        case special
        case system(SystemError)
    }

    private init(_ number: UInt64, createdAt: Int64, salt: UInt32, count: Int, _ file: consuming FileDescriptor) {
        (self.number, self.createdAt, self.salt, self.count) = (number, createdAt, salt, count)
        self.file = file
    }

    /// Creates an empty file.
    static func create(_ number: UInt64, in folder: OpenFolder) throws(SystemError) -> RequestFile {
        let (salt, createdAt) = (UInt32.random(in: 1 ... .max), MonotonicTime.unixNanoseconds)
        let file = try folder.open(name(number), O_RDWR | O_CREAT | O_EXCL, mode: 0o600)
        do throws(SystemError) { try unsafe file.writeAll(header(createdAt, salt).span.bytes, at: 0) } catch {
            // Empty files can be created on a full disk, so each attempt would leave one.
            try folder.remove(name(number))
            throw error
        }
        return RequestFile(number, createdAt: createdAt, salt: salt, count: 0, file)
    }

    /// Opens an existing file; an incomplete last record will be overwritten.
    static func open(_ number: UInt64, in folder: OpenFolder) throws(Failure) -> RequestFile {
        let file = try file(number, folder)
        let (head, size) = try head(of: file)
        let (createdAt, salt) = try decode(head)
        return RequestFile(
            number, createdAt: createdAt, salt: salt, count: max(0, size - headerSize) / AcceptedRequest.size, file)
    }

    private static func file(_ number: UInt64, _ folder: OpenFolder) throws(Failure) -> FileDescriptor {
        do throws(SystemError) {
            if let status = try folder.status(of: name(number)), status.kind != .regular { throw SystemError("open", code: EINVAL) }
            return try folder.open(name(number), O_RDWR)
        } catch { throw error.code == EINVAL ? .special : .system(error) }
    }

    private static func head(of file: borrowing FileDescriptor) throws(Failure) -> ([UInt8], size: Int) {
        do throws(SystemError) { return (try file.read(headerSize, at: 0), try file.size()) } catch { throw .system(error) }
    }

    private static func header(_ createdAt: Int64, _ salt: UInt32) -> [UInt8] {
        var writer = LittleEndianWriter()
        writer.add(magic)
        writer.add(version)
        writer.add(UInt32(0))
        writer.add(createdAt)
        writer.add(salt)
        writer.add(CRC32C.of(writer.bytes))
        return writer.bytes
    }

    private static func decode(_ head: [UInt8]) throws(Failure) -> (createdAt: Int64, salt: UInt32) {
        let bytes = unsafe head.span.bytes
        guard head.count == headerSize, littleEndian(bytes, at: 0) == magic,
            littleEndian(bytes, at: headerSize - 4) == CRC32C.of(head, 0..<(headerSize - 4))
        else { throw .damaged }
        let version: UInt32 = littleEndian(bytes, at: 8)
        guard version <= Self.version else { throw .newer(version) }
        return (littleEndian(bytes, at: 16), littleEndian(bytes, at: 24))
    }

    // MARK: Names

    static func name(_ number: UInt64) -> String { number.sixteenDigits + suffix }

    /// The largest number of a file that is used; larger ones are left untouched, because the numbers after them would run out.
    static let largestNumber = UInt64(Int64.max)

    /// The number in a file's name; nil when the name is not one of the journal's.
    static func number(of name: String) -> UInt64? {
        guard name.hasSuffix(suffix), let number = UInt64(name.dropLast(suffix.count), radix: 16), Self.name(number) == name else {
            return nil
        }
        return number
    }

    // MARK: Records

    /// Appends records; after a failure, the next records overwrite them.
    mutating func append(_ requests: [AcceptedRequest]) throws(SystemError) {
        let bytes = requests.flatMap { $0.encoded(seed: salt) }
        try unsafe file.writeAll(bytes.span.bytes, at: Self.headerSize + count * AcceptedRequest.size)
        count += requests.count
    }

    func synchronize() throws(SystemError) { try file.synchronize() }

    /// Reads all records, 1024 at a time.
    ///
    /// - Returns: the number of damaged records.
    func read(_ body: (AcceptedRequest) -> Void) throws(SystemError) -> Int {
        var (damaged, inARow) = (0, 0)
        for start in stride(from: 0, to: count, by: Self.readAtOnce) {
            let wanted = min(Self.readAtOnce, count - start)
            let bytes = try file.read(wanted * AcceptedRequest.size, at: Self.headerSize + start * AcceptedRequest.size)
            for offset in stride(from: 0, to: bytes.count, by: AcceptedRequest.size) {
                let record = unsafe bytes.span.bytes.extracting(offset..<min(offset + AcceptedRequest.size, bytes.count))
                if let request = AcceptedRequest(record, seed: salt) {
                    body(request)
                    inARow = 0
                } else {
                    damaged += 1
                    inARow += 1
                }
            }
            if inARow >= Self.mostInARow { return damaged + count - start - wanted }
        }
        return damaged
    }

    private static let readAtOnce = 1024
    /// The number of damaged records in a row after which reading stops, because a sparse file may have a hole of any size.
    private static let mostInARow = 1 << 16
}
