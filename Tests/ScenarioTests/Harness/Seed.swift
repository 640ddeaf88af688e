import Foundation

/// Random numbers that can be had again: a test prints the seed, and `GATEWAY_SEED` repeats it.
struct Seed: RandomNumberGenerator {
    private var state: UInt64

    init(_ state: UInt64) { self.state = state }

    /// A new one, printed with the name of who uses it; or the one that is asked for.
    init(for name: String) {
        let asked = ProcessInfo.processInfo.environment["GATEWAY_SEED"].flatMap { UInt64($0) }
        state = asked ?? UInt64.random(in: 0...UInt64(UInt32.max))
        print("\(name): GATEWAY_SEED=\(state)")
    }

    /// SplitMix64.
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }

    mutating func chance(_ part: Int, of whole: Int) -> Bool { Int.random(in: 0..<whole, using: &self) < part }
}

/// How much of something a test does: what the environment says, else what `make test` has time for.
enum Extent {
    static func of(_ variable: String, usual: Int, sanitized: Int) -> Int {
        ProcessInfo.processInfo.environment[variable].flatMap { Int($0) } ?? (Package.isSanitized ? sanitized : usual)
    }
}
