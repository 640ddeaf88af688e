import Glibc
public import LinuxSystem

/// The files and bytes of an archive by hour, so that a start need not read all folders.
///
/// The file lists each hour with its files and bytes, and marks the hours that were being changed, which are counted again after a
/// crash. It is only a cache: without a valid index the archive is counted.
///
///     gateway-archive-index 1
///     20260131T23 120 4711000
///     20260201T00 6 90321 changing
///     end 2
public struct ArchiveIndex: Sendable, Equatable {
    /// The contents of all folders of one hour.
    public struct Hour: Sendable, Equatable {
        /// The number of files.
        public var files: Int
        /// The sum of the files' sizes in bytes.
        public var bytes: Int

        /// Makes the contents of an hour from a number of files and their total size in bytes.
        public init(files: Int = 0, bytes: Int = 0) { (self.files, self.bytes) = (files, bytes) }
    }

    /// The name of the index file, in the archive's root folder.
    public static let name = ".gateway-archive-index"
    private static let heading = "gateway-archive-index 1"
    /// Enough for a century of hours, which is more than any archive has.
    private static let maximumSize = 64 << 20
    /// The largest plausible number of files or bytes in an archive.
    public static let largest = 1 << 50
    /// The largest number of files or bytes in an hour, so that the sum over ``mostHours`` hours does not overflow.
    public static let largestHour = 1 << 42
    private static let mostHours = 1 << 20

    /// The hours by name: `20260131T23`.
    public private(set) var hours: [String: Hour] = [:]
    /// The sum of all hours.
    public private(set) var total = Hour()
    /// Hours whose numbers may be wrong, because a run that was changing them did not end properly.
    public var changing: Set<String> = []

    /// Makes an index without hours.
    public init() {}

    /// Sets the contents of an hour; nil removes the hour.
    public mutating func set(_ hour: String, _ new: Hour?) {
        let old = hours[hour] ?? Hour()
        // Sparse files may have any apparent size.
        let new = new.map { Hour(files: min($0.files, Self.largestHour), bytes: min($0.bytes, Self.largestHour)) }
        hours[hour] = new
        total.files += (new?.files ?? 0) - old.files
        total.bytes += (new?.bytes ?? 0) - old.bytes
    }

    /// Adds to the contents of an hour; negative numbers subtract, but not below zero.
    public mutating func add(_ hour: String, files: Int, bytes: Int) {
        let old = hours[hour] ?? Hour()
        set(hour, Hour(files: max(0, old.files + files), bytes: max(0, old.bytes.addingSaturated(bytes))))
    }

    /// The oldest hour in the index.
    public var oldest: String? { hours.keys.min() }

    // MARK: The file

    /// The content of the index file.
    public var text: String {
        let lines = changing.union(hours.keys).sorted().map { hour in
            "\(hour) \(hours[hour]?.files ?? 0) \(hours[hour]?.bytes ?? 0)\(changing.contains(hour) ? " changing" : "")"
        }
        return ([Self.heading] + lines + ["end \(lines.count)"]).joined(separator: "\n") + "\n"
    }

    /// Parses the content of an index file; nil when it has another version, is incomplete, or has implausible numbers.
    public init?(_ text: String) {
        var lines = text.split(separator: "\n", omittingEmptySubsequences: false)
        guard lines.count >= 3, lines.removeLast().isEmpty, lines.removeFirst() == Self.heading,
            lines.removeLast() == "end \(lines.count)", lines.count <= Self.mostHours
        else { return nil }
        for line in lines { guard read(line) else { return nil } }
        guard total.files <= Self.largest, total.bytes <= Self.largest else { return nil }
    }

    private mutating func read(_ line: Substring) -> Bool {
        let words = line.split(separator: " ", omittingEmptySubsequences: false)
        guard 3...4 ~= words.count, Self.isHour(words[0]), hours[String(words[0])] == nil, words.count == 3 || words[3] == "changing",
            let files = Int(words[1]), let bytes = Int(words[2]), 0...Self.largestHour ~= files, 0...Self.largestHour ~= bytes
        else { return false }
        set(String(words[0]), Hour(files: files, bytes: bytes))
        if words.count == 4 { changing.insert(String(words[0])) }
        return true
    }

    /// Whether a text has the form of an hour: `20260131T23`.
    public static func isHour(_ text: some StringProtocol) -> Bool {
        let bytes = Array(text.utf8)
        return bytes.count == 11 && bytes.enumerated().allSatisfy { $0 == 8 ? $1 == UInt8(ascii: "T") : 48...57 ~= $1 }
    }

    /// Reads the index of an archive; nil when there is no usable one.
    public static func read(from archive: OpenFolder) throws(SystemError) -> ArchiveIndex? {
        do throws(SystemError) {
            let bytes = try archive.open(name, O_RDONLY).readAll(limit: maximumSize)
            return ArchiveIndex(String(decoding: bytes, as: UTF8.self))
        } catch {
            if [ENOENT, EFBIG, ELOOP, EINVAL].contains(error.code) { return nil }
            throw error
        }
    }

    /// Writes the index file atomically and durably.
    public func write(to archive: OpenFolder, mode: FileMode) throws(SystemError) {
        let temporary = Self.name + ".tmp"
        // A link or pipe of this name would make every attempt fail.
        try archive.remove(temporary)
        let file = try archive.open(temporary, O_WRONLY | O_CREAT | O_EXCL, mode: mode.bits)
        try unsafe file.writeAll(Array(text.utf8).span.bytes)
        if mode.isExact { try file.set(mode) }
        try file.synchronize()
        try archive.rename(temporary, to: Self.name)
        try archive.synchronize()
    }
}
