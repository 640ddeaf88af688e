/// Identifies a connection; when a slot is reused, its next connection has another key.
package struct ConnectionKey: Hashable, Sendable {
    let rawValue: UInt64

    init(rawValue: UInt64) { self.rawValue = rawValue }

    /// The loop is in the top byte, so that keys are unique in the process; generation and slot follow.
    init(loop: Int, generation: UInt32, slot: Int) {
        rawValue = UInt64(loop + 1) << 56 | UInt64(generation & 0xFF_FFFF) << 32 | UInt64(slot)
    }

    var slot: Int { Int(rawValue & 0xFFFF_FFFF) }
}
