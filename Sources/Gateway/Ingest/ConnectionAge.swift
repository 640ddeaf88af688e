import LinuxSystem

/// When a connection is too old for another request: a value, with the time handed in.
///
/// Each connection has its own part of the age that is allowed, from four fifths to all of it, so that those who came together do
/// not all come again together.
struct ConnectionAge {
    private let began: MonotonicTime
    private let part: Double

    /// - Parameter part: 0.8 to 1.
    init(since began: MonotonicTime, part: Double = .random(in: 0.8...1)) { (self.began, self.part) = (began, part) }

    /// Whether the next answer is the last one; never with an age of zero.
    func isOver(_ maximum: Duration, now: MonotonicTime) -> Bool { maximum > .zero && now >= began + maximum * part }
}
