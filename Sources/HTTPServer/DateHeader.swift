import LinuxSystem

/// The value of the Date header (RFC 9110 §6.6.1), formatted once a second.
struct DateHeader {
    private var second: Int64 = -1
    private var text = ""

    mutating func current() -> String {
        let unix = MonotonicTime.unixNanoseconds
        if unix / 1_000_000_000 != second { (second, text) = (unix / 1_000_000_000, CivilTime(unixNanoseconds: unix).httpDate) }
        return text
    }
}
