/// Whether a receiver does its work.
package enum Health: String, Sendable, Comparable {
    case ok, degraded, failed

    private var rank: Int { self == .ok ? 0 : self == .degraded ? 1 : 2 }
    package static func < (a: Health, b: Health) -> Bool { a.rank < b.rank }
}
