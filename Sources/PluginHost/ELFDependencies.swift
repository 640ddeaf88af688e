/// The libraries that a shared object needs and where to search for them, from its dynamic section (ELF gABI, chapter 5).
struct ELFDependencies: Equatable {
    /// `DT_NEEDED`, and the filters, which also load libraries; mostly names without a folder.
    private(set) var needed: [String] = []
    /// The folders of `DT_RUNPATH`, which are searched for them.
    private(set) var runPath: [String] = []
    /// The folders of `DT_RPATH`, which are also searched for the needs of its libraries. Ignored when there is a `DT_RUNPATH`.
    private(set) var inheritedPath: [String] = []

    private enum Tag {
        static let needed = 1, strings = 5, size = 10, rpath = 15, runpath = 29, auxiliary = 0x7FFF_FFFD, filter = 0x7FFF_FFFF
    }
    private enum Kind { static let load = 1, dynamic = 2 }

    private struct Segment {
        let kind: Int
        let offset: Int
        let address: Int
        let size: Int
    }

    /// Reads a native file; nil when its headers point outside the file, or a string is invalid.
    init?(_ bytes: [UInt8]) {
        guard let segments = Self.segments(bytes) else { return nil }
        guard let dynamic = segments.first(where: { $0.kind == Kind.dynamic }) else { return }
        guard let entries = Self.entries(bytes, dynamic) else { return nil }
        let texts = entries.filter { Self.isText($0.tag) }
        if texts.isEmpty { return }
        guard let start = entries.last(where: { $0.tag == Tag.strings })?.value,
            let size = entries.last(where: { $0.tag == Tag.size })?.value,
            let place = Self.place(of: start, size, segments, bytes.count)
        else { return nil }
        for (tag, offset) in texts {
            guard offset < size, let text = Self.text(bytes[(place + offset)..<(place + size)]) else { return nil }
            take(tag, text)
        }
        if entries.contains(where: { $0.tag == Tag.runpath }) { inheritedPath = [] }
    }

    private static func isText(_ tag: Int) -> Bool {
        [Tag.needed, Tag.rpath, Tag.runpath, Tag.auxiliary, Tag.filter].contains(tag)
    }

    private mutating func take(_ tag: Int, _ text: String) {
        // An empty entry means the working directory, like ".".
        let folders = text.split(separator: ":", omittingEmptySubsequences: false).map { $0.isEmpty ? "." : String($0) }
        switch tag {
        case Tag.rpath: inheritedPath = folders
        case Tag.runpath: runPath = folders
        default: needed.append(text)
        }
    }

    // MARK: Bytes

    /// Reads a little-endian number; nil outside the file, or from 2^61 on, so that three of them can be added without overflow.
    static func number(_ bytes: [UInt8], _ offset: Int, _ size: Int) -> Int? {
        guard offset >= 0, offset <= bytes.count - size else { return nil }
        let value = bytes[offset..<(offset + size)].reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        return value < 1 << 61 ? Int(value) : nil
    }

    private static func segments(_ bytes: [UInt8]) -> [Segment]? {
        guard let start = number(bytes, 32, 8), let size = number(bytes, 54, 2), let count = number(bytes, 56, 2) else { return nil }
        var segments: [Segment] = []
        for index in 0..<count {
            let header = start + index * size
            guard let kind = number(bytes, header, 4) else { return nil }
            guard [Kind.load, Kind.dynamic].contains(kind) else { continue }
            guard let offset = number(bytes, header + 8, 8), let address = number(bytes, header + 16, 8),
                let size = number(bytes, header + 32, 8)
            else { return nil }
            segments.append(Segment(kind: kind, offset: offset, address: address, size: size))
        }
        return segments
    }

    /// The entries up to `DT_NULL`, without those whose value is too large to be a place in the file.
    private static func entries(_ bytes: [UInt8], _ dynamic: Segment) -> [(tag: Int, value: Int)]? {
        guard dynamic.offset + dynamic.size <= bytes.count else { return nil }
        var entries: [(tag: Int, value: Int)] = []
        for offset in stride(from: dynamic.offset, to: dynamic.offset + dynamic.size - 15, by: 16) {
            guard let tag = number(bytes, offset, 8), let value = number(bytes, offset + 8, 8) else { continue }
            if tag == 0 { break }
            entries.append((tag, value))
        }
        return entries
    }

    /// The offset in the file of the bytes that are loaded at an address.
    private static func place(of address: Int, _ size: Int, _ segments: [Segment], _ end: Int) -> Int? {
        let segment = segments.first { $0.kind == Kind.load && $0.address <= address && address + size <= $0.address + $0.size }
        guard let segment, case let place = segment.offset + (address - segment.address), place + size <= end else { return nil }
        return place
    }

    /// The string up to a NUL.
    private static func text(_ bytes: ArraySlice<UInt8>) -> String? {
        guard let end = bytes.firstIndex(of: 0) else { return nil }
        return String(validating: bytes[..<end], as: UTF8.self)
    }
}
