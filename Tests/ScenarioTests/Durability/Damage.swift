import Foundation
import Glibc

@testable import TestSupport

/// Damage to a file of a spool, as failing disks and operators cause it.
struct Damage: CustomStringConvertible {
    enum Kind: CaseIterable { case flip, truncate, zero, append, delete, foreign, empty, swap }

    let kind: Kind
    /// The names of the changed files.
    private(set) var files: [String] = []
    private let folder: String

    var description: String { "\(kind) \(files.joined(separator: " "))" }

    /// Does the damage; `files` is empty if there was nothing to damage.
    init(_ kind: Kind, in folder: String, _ seed: inout SeededRandom, only suffix: String = "") throws {
        (self.kind, self.folder) = (kind, folder)
        let all = try FileManager.default.contentsOfDirectory(atPath: folder).filter { $0.hasSuffix(suffix) }.sorted()
        guard let file = all.randomElement(using: &seed) else { return }
        switch kind {
        case .flip: try change(file, &seed, Self.flip)
        case .truncate:
            try change(file, &seed) { bytes, seed in bytes.removeLast(Int.random(in: 1...max(1, bytes.count), using: &seed)) }
        case .zero: try change(file, &seed, Self.zero)
        case .append:
            try change(file, &seed) { bytes, seed in bytes += Self.garbage(Int.random(in: 1...10_000, using: &seed), &seed) }
        case .delete:
            try FileManager.default.removeItem(atPath: "\(folder)/\(file)")
            files = [file]
        case .foreign: try add(Self.garbage(Int.random(in: 1...10_000, using: &seed), &seed), suffix, &seed)
        case .empty: try add([], suffix, &seed)
        case .swap: try swap(file, all, &seed)
        }
    }

    // MARK: What is damaged

    func hits(_ suffix: String) -> Bool { files.contains { $0.hasSuffix(suffix) } }

    /// The segments whose file with this suffix is damaged.
    func segments(_ suffix: String) -> Set<String> {
        // Added bytes and added files leave what was there readable.
        guard ![.append, .foreign, .empty].contains(kind) else { return [] }
        return Set(files.filter { $0.hasSuffix(suffix) }.map { String($0.dropLast(suffix.count)) })
    }

    // MARK: Doing the damage

    /// Writes a file again with changed bytes.
    private mutating func change(_ file: String, _ seed: inout SeededRandom, _ edit: (inout [UInt8], inout SeededRandom) -> Void) throws {
        let url = URL(fileURLWithPath: "\(folder)/\(file)")
        let before = [UInt8](try Data(contentsOf: url))
        var after = before
        if kind == .append || !before.isEmpty { edit(&after, &seed) }
        guard after != before else { return }
        try Data(after).write(to: url)
        files = [file]
    }

    /// Flips up to four bits.
    private static func flip(_ bytes: inout [UInt8], _ seed: inout SeededRandom) {
        for _ in 0..<Int.random(in: 1...4, using: &seed) {
            bytes[Int.random(in: 0..<bytes.count, using: &seed)] ^= 1 << UInt8.random(in: 0...7, using: &seed)
        }
    }

    /// Sets up to 8 KiB to zero.
    private static func zero(_ bytes: inout [UInt8], _ seed: inout SeededRandom) {
        let start = Int.random(in: 0..<bytes.count, using: &seed)
        for index in start..<min(bytes.count, start + Int.random(in: 1...8192, using: &seed)) { bytes[index] = 0 }
    }

    private static func garbage(_ count: Int, _ seed: inout SeededRandom) -> [UInt8] {
        (0..<count).map { _ in UInt8.random(in: 0...255, using: &seed) }
    }

    /// Adds a foreign file with these bytes, named like a file of the spool.
    private mutating func add(_ bytes: [UInt8], _ suffix: String, _ seed: inout SeededRandom) throws {
        let hex = String(UInt64.random(in: 0...(1 << 40), using: &seed), radix: 16)
        let number = String(repeating: "0", count: 16 - hex.count) + hex
        let name = number + (suffix.isEmpty ? [".records", ".index", ".settled"].randomElement(using: &seed) ?? "" : suffix)
        try Data(bytes).write(to: URL(fileURLWithPath: "\(folder)/\(name)"))
        files = [name]
    }

    /// Exchanges two files of the same kind between segments.
    private mutating func swap(_ file: String, _ all: [String], _ seed: inout SeededRandom) throws {
        let suffix = String(file.drop { $0 != "." })
        guard let other = all.filter({ $0.hasSuffix(suffix) && $0 != file }).randomElement(using: &seed) else { return }
        for (from, to) in [(file, "swapped"), (other, file), ("swapped", other)] {
            guard rename("\(folder)/\(from)", "\(folder)/\(to)") == 0 else { throw NeverCame(what: "rename \(from)", seen: []) }
        }
        files = [file, other]
    }
}
