import LinuxSystem
import PluginKit

/// The names of the files of one archived profile.
///
///     <tenant>/<service>/2026/01/31/23/20260131T235959.123456789Z-<sequence>[-<index>].<format>
///
/// with the metadata in a `.json` of the same name.
public struct ArchivedFiles: Sendable, Equatable {
    /// The folder of the files, relative to the archive.
    public let folder: String
    /// The common beginning of the names, which sorts by time.
    public let stem: String
    /// The ending of the payloads' names, after a dot.
    public let ending: String
    /// The number of payloads.
    public let count: Int

    /// Describes existing files.
    public init(folder: String, stem: String, ending: String, count: Int) {
        (self.folder, self.stem, self.ending, self.count) = (folder, stem, ending, count)
    }

    init(of profile: Profile) {
        let tenant = FileName.component(profile.tenant, ifEmpty: "anonymous")
        let service = FileName.component(profile.label("service_name") ?? "", ifEmpty: "unknown_service")
        let time = Self.time(profile.receivedAt)
        folder = "\(tenant)/\(service)/\(Self.folder(ofHour: String(time.prefix(Self.hourLength))))"
        stem = "\(time)-\(profile.sequence)"
        ending = Self.ending(of: profile)
        count = profile.sampleCount
    }

    /// The time of receipt as it begins a name, from Unix nanoseconds: `20260131T235959.123456789Z`.
    public static func time(_ nanoseconds: Int64) -> String {
        let time = CivilTime(unixNanoseconds: nanoseconds)
        let day = "\(CivilTime.pad(time.date.year, 4))\(CivilTime.pad(time.date.month))\(CivilTime.pad(time.date.day))"
        let clock = "\(CivilTime.pad(time.hour))\(CivilTime.pad(time.minute))\(CivilTime.pad(time.second))"
        return "\(day)T\(clock).\(CivilTime.pad(time.nanosecond, 9))Z"
    }

    /// The number of bytes of a name up to its hour: `20260131T23`.
    static let hourLength = 11

    /// The hour in which the profile was received: `20260131T23`.
    public var hour: String { String(stem.prefix(Self.hourLength)) }

    /// The hour of a time in Unix nanoseconds.
    public static func hour(_ nanoseconds: Int64) -> String { String(time(nanoseconds).prefix(hourLength)) }

    /// The path of an hour's folder within the folder of tenant and service: `2026/01/31/23`.
    public static func folder(ofHour hour: String) -> String {
        let digits = Array(hour)
        guard ArchiveIndex.isHour(hour) else { return hour }
        return [digits[0..<4], digits[4..<6], digits[6..<8], digits[9..<11]].map { String($0) }.joined(separator: "/")
    }

    /// The hour of a folder of an archive; nil when it is not an hour's folder.
    public static func hour(ofFolder relative: String) -> String? {
        let parts = relative.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count == 6, parts[2...].map(\.utf8.count) == [4, 2, 2, 2] else { return nil }
        let hour = "\(parts[2...4].joined())T\(parts[5])"
        return ArchiveIndex.isHour(hour) ? hour : nil
    }

    /// The ending for the file's format; a multipart body is stored unparsed, so it gets an ending of its own.
    private static func ending(of profile: Profile) -> String {
        let format = profile.format == "speedscope" ? "speedscope.json" : profile.format
        return profile.contentType.contains("multipart/form-data") ? "\(format).multipart" : format
    }

    /// The name of the metadata file.
    public var metadata: String { "\(stem).json" }

    /// All names, the metadata's first.
    public var names: [String] { [metadata] + (0..<count).map(payload) }

    /// The name of one payload.
    public func payload(_ index: Int) -> String { count > 1 ? "\(stem)-\(index).\(ending)" : "\(stem).\(ending)" }
}

/// The parts of a file name in an archive.
public struct ArchivedName: Sendable, Equatable {
    /// The common beginning of the names of the profile's files.
    public let stem: String
    /// The index of the payload, when there are several.
    public let index: Int?
    /// The text after the first dot that follows.
    public let ending: String

    /// The hour in which the profile was received: `20260131T23`.
    public var hour: String { String(stem.prefix(ArchivedFiles.hourLength)) }

    /// True for the metadata file.
    public var isMetadata: Bool { index == nil && ending == "json" }

    private static let time = "00000000T000000.000000000Z-"

    /// Parses a name; nil when it does not have the form of an archive's names.
    public init?(_ name: some StringProtocol) {
        let bytes = Array(name.utf8)
        guard bytes.count > Self.time.utf8.count,
            zip(Self.time.utf8, bytes).allSatisfy({ $0 == UInt8(ascii: "0") ? Self.isDigit($1) : $0 == $1 })
        else { return nil }
        let sequence = bytes[Self.time.utf8.count...].prefix(while: Self.isDigit)
        guard !sequence.isEmpty else { return nil }
        var rest = bytes[sequence.endIndex...]
        if rest.first == UInt8(ascii: "-") {
            let digits = rest.dropFirst().prefix(while: Self.isDigit)
            guard let index = Int(String(decoding: digits, as: UTF8.self)) else { return nil }
            self.index = index
            rest = rest[digits.endIndex...]
        } else {
            index = nil
        }
        guard rest.first == UInt8(ascii: "."), rest.count > 1 else { return nil }
        stem = String(decoding: bytes[..<sequence.endIndex], as: UTF8.self)
        ending = String(decoding: rest.dropFirst(), as: UTF8.self)
    }

    private static func isDigit(_ byte: UInt8) -> Bool { 48...57 ~= byte }
}
