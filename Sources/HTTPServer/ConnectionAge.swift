import LinuxSystem

/// Decides when a connection is too old for another request; a value, which is given the time.
///
/// Each connection gets a random part of the maximum age, from four fifths to all of it, so that clients which connected together
/// do not all reconnect together.
struct ConnectionAge {
    let began: MonotonicTime
    private let part: Double

    /// - Parameter part: the part of the maximum age, 0.8 to 1.
    init(since began: MonotonicTime, part: Double = .random(in: 0.8...1)) { (self.began, self.part) = (began, part) }

    /// Whether the next answer is the connection's last; never when `maximum` is zero.
    func isOver(_ maximum: Duration, now: MonotonicTime) -> Bool { maximum > .zero && now >= began + maximum * part }
}
