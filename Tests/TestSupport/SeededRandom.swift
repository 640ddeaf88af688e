import Foundation

/// Repeatable random numbers: the seed is printed, and `GATEWAY_SEED` sets it.
struct SeededRandom: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    /// Takes the seed of the environment or a new one, and prints it with the name of the test.
    init(_ test: String = #function) {
        let asked = ProcessInfo.processInfo.environment["GATEWAY_SEED"].flatMap { UInt64($0) }
        state = asked ?? UInt64.random(in: 0...UInt64(UInt32.max))
        // Standard error is not buffered, so the seed is printed even if the test crashes the process.
        FileHandle.standardError.write(Data("\(test): GATEWAY_SEED=\(state)\n".utf8))
    }

    /// SplitMix64.
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }

    mutating func below(_ bound: Int) -> Int { Int.random(in: 0..<bound, using: &self) }

    mutating func chance(_ part: Int, of whole: Int) -> Bool { below(whole) < part }

    /// Up to `count` bytes, which all come from `alphabet` half the time.
    mutating func bytes(upTo count: Int, of alphabet: String) -> [UInt8] {
        let letters = Array(alphabet.utf8)
        let isPlain = Bool.random(using: &self)
        return (0..<below(count + 1)).map { _ in isPlain ? letters[below(letters.count)] : UInt8(truncatingIfNeeded: next()) }
    }

    /// `bytes` with a few of them changed, removed or inserted.
    mutating func mutated(_ bytes: [UInt8]) -> [UInt8] {
        var bytes = bytes
        for _ in 0...below(4) where !bytes.isEmpty {
            let index = below(bytes.count)
            switch below(3) {
            case 0: bytes[index] = UInt8(truncatingIfNeeded: next())
            case 1: bytes.remove(at: index)
            default: bytes.insert(bytes[below(bytes.count)], at: index)
            }
        }
        return bytes
    }
}

/// The size of a test: the value of an environment variable, or what `make test` has time for.
enum Extent {
    static func of(_ variable: String, usual: Int, sanitized: Int) -> Int {
        ProcessInfo.processInfo.environment[variable].flatMap { Int($0) } ?? (Project.isSanitized ? sanitized : usual)
    }
}
