import LinuxSystem

/// Parses `from` and `until` as Pyroscope's `attime` does: a number, a date, or an offset such as `now-1h`.
///
/// Parsing never fails: a text that cannot be read gives the reference time itself.
package enum SenderTime {
    /// - Parameter now: the reference time, Unix nanoseconds.
    /// - Returns: Unix nanoseconds, clamped to the range of `Int64`.
    package static func parse(_ text: String, now: Int64) -> Int64 {
        // A plain number is what most senders write.
        if !text.isEmpty, text.utf8.allSatisfy({ 48...57 ~= $0 }) { return absolute(text, now: now) }
        let text = text.filter { $0 != " " && $0 != "_" && $0 != "," }
        if !text.isEmpty, text.utf8.allSatisfy({ 48...57 ~= $0 }) { return absolute(text, now: now) }
        guard let sign = text.firstIndex(where: { $0 == "+" || $0 == "-" }) else { return now }
        let (sum, overflow) = now.addingReportingOverflow(offset(text[sign...]))
        return overflow ? (text[sign] == "-" ? .min : .max) : sum
    }

    private static func absolute(_ digits: String, now: Int64) -> Int64 {
        guard let number = Int64(digits) else { return now }
        if digits.utf8.count == 8, let days = CivilDate(yyyymmdd: Int(number))?.daysSince1970 {
            return held(Int64(days), 86_400_000_000_000)
        }
        let scale: Int64 =
            switch digits.utf8.count {
            case 13: 1_000_000
            case 16: 1_000
            case 19: 1
            default: 1_000_000_000
            }
        return held(number, scale)
    }

    /// A product, clamped to the range of `Int64`.
    private static func held(_ number: Int64, _ scale: Int64) -> Int64 {
        let (product, overflow) = number.multipliedReportingOverflow(by: scale)
        return overflow ? (number < 0 ? .min : .max) : product
    }

    /// Reads an offset such as `-1h30min`: one sign, then quantities, up to the first text that is not a quantity.
    private static func offset(_ text: Substring) -> Int64 {
        var rest = text.dropFirst()
        var total: Int64 = 0
        while true {
            let digits = rest.prefix { $0.isASCII && $0.isNumber }
            let unit = rest.dropFirst(digits.count).prefix { $0.isLetter }
            guard let number = Int64(digits), let seconds = seconds(of: unit) else { break }
            let (sum, overflow) = total.addingReportingOverflow(held(held(number, seconds), 1_000_000_000))
            total = overflow ? .max : sum
            rest = rest.dropFirst(digits.count + unit.count)
        }
        return text.first == "-" ? -total : total
    }

    private static func seconds(of unit: Substring) -> Int64? {
        switch unit {
        case let unit where unit.hasPrefix("min"): 60
        case let unit where unit.hasPrefix("mon"): 30 * 86_400
        case let unit where unit.hasPrefix("s"): 1
        case let unit where unit.hasPrefix("m"): 60
        case let unit where unit.hasPrefix("M"): 30 * 86_400
        case let unit where unit.hasPrefix("h"): 3_600
        case let unit where unit.hasPrefix("d"): 86_400
        case let unit where unit.hasPrefix("w"): 7 * 86_400
        case let unit where unit.hasPrefix("y"): 365 * 86_400
        default: nil
        }
    }
}
