/// What a shared object exports, from its dynamic symbol table (ELF gABI, chapter 4).
struct ELFSymbols: Equatable, Sendable {
    /// The names that other libraries could find.
    private(set) var exported: [String] = []
    /// Those of them that are one for the whole process (`STB_GNU_UNIQUE`), whatever the loader is told.
    private(set) var unique: [String] = []

    private enum Section { static let dynamicSymbols = 11 }
    private static let entrySize = 24

    /// Reads a native file; nil when it has no section headers, or they point outside the file.
    init?(_ bytes: [UInt8]) {
        let number = { ELFDependencies.number(bytes, $0, $1) }
        guard let headers = number(40, 8), let size = number(58, 2), let count = number(60, 2), count > 0 else { return nil }
        for index in 0..<count {
            let header = headers + index * size
            guard let kind = number(header + 4, 4) else { return nil }
            guard kind == Section.dynamicSymbols else { continue }
            guard let start = number(header + 24, 8), let length = number(header + 32, 8), let link = number(header + 40, 4),
                let names = number(headers + link * size + 24, 8), start + length <= bytes.count
            else { return nil }
            for entry in stride(from: start, to: start + length - Self.entrySize + 1, by: Self.entrySize) {
                guard let name = number(entry, 4), let section = number(entry + 6, 2) else { return nil }
                let (binding, visibility) = (bytes[entry + 4] >> 4, bytes[entry + 5] & 3)
                // Local, not defined here, or hidden.
                guard binding != 0, section != 0, visibility == 0 || visibility == 3 else { continue }
                guard names + name < bytes.count, let end = bytes[(names + name)...].firstIndex(of: 0) else { return nil }
                let text = String(decoding: bytes[(names + name)..<end], as: UTF8.self)
                exported.append(text)
                if binding == 10 { unique.append(text) }
            }
        }
        exported.sort()
        unique.sort()
    }
}
