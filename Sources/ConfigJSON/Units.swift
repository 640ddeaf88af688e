/// Parses a duration as Go and Alloy write it: `30s`, `500ms`, `1h30m`, `1.5s`; nil when it is invalid or negative.
public func parseDuration(_ text: String) -> Duration? {
    let units: [(String, Int64)] = [
        ("ns", 1), ("us", 1_000), ("µs", 1_000), ("ms", 1_000_000), ("s", 1_000_000_000), ("m", 60_000_000_000),
        ("h", 3_600_000_000_000), ("d", 86_400_000_000_000),
    ]
    if text == "0" { return .zero }
    var total: Int64 = 0
    var rest = text[...]
    repeat {
        guard let (number, unit) = takeQuantity(&rest), let scale = units.first(where: { $0.0 == unit })?.1,
            let nanoseconds = Int64(exactly: (number * Double(scale)).rounded())
        else { return nil }
        let (sum, overflow) = total.addingReportingOverflow(nanoseconds)
        guard !overflow else { return nil }
        total = sum
    } while !rest.isEmpty
    return .nanoseconds(total)
}

/// Parses a size: `64MiB`, `1.5GiB`, `10MB`, `512`; nil when it is invalid.
public func parseSize(_ text: String) -> Int? {
    let units: [String: Double] = [
        "": 1, "b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12, "kib": 1024, "mib": 1_048_576,
        "gib": 1_073_741_824, "tib": 1_099_511_627_776,
    ]
    var rest = text[...]
    guard let (number, unit) = takeQuantity(&rest), rest.isEmpty, let scale = units[unit.lowercased()] else { return nil }
    return Int(exactly: (number * scale).rounded())
}

/// Reads a decimal number and the letters after it.
private func takeQuantity(_ text: inout Substring) -> (number: Double, unit: String)? {
    let digits = text.prefix { $0.isASCII && $0.isNumber || $0 == "." }
    let unit = text.dropFirst(digits.count).prefix { $0.isLetter }
    guard digits.first != ".", digits.last != ".", let number = Double(digits) else { return nil }
    text = text.dropFirst(digits.count + unit.count)
    return (number, String(unit))
}
