/// A date of the Gregorian calendar.
public struct CivilDate: Sendable, Equatable {
    /// The year, with 0 for 1 BC.
    public var year: Int
    /// The month, 1 to 12.
    public var month: Int
    /// The day of the month, from 1.
    public var day: Int

    /// Reads a number such as 20260131; nil when there is no such day.
    public init?(yyyymmdd number: Int) {
        (year, month, day) = (number / 10_000, number / 100 % 100, number % 100)
        guard CivilDate(daysSince1970: daysSince1970) == self else { return nil }
    }

    /// The date a number of days after 1 January 1970.
    ///
    /// Counts in eras of 400 years from 1 March of year 0, so that a leap day is the last day of its year.
    public init(daysSince1970 days: Int) {
        let shifted = days + 719_468
        let era = (shifted >= 0 ? shifted : shifted - 146_096) / 146_097
        let dayOfEra = shifted - era * 146_097
        let yearOfEra = (dayOfEra - dayOfEra / 1_460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let monthFromMarch = (5 * dayOfYear + 2) / 153
        day = dayOfYear - (153 * monthFromMarch + 2) / 5 + 1
        month = monthFromMarch < 10 ? monthFromMarch + 3 : monthFromMarch - 9
        year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0)
    }

    /// The number of days from 1 January 1970 to this date; negative for an earlier date.
    public var daysSince1970: Int {
        let shiftedYear = month <= 2 ? year - 1 : year
        let era = (shiftedYear >= 0 ? shiftedYear : shiftedYear - 399) / 400
        let yearOfEra = shiftedYear - era * 400
        let dayOfYear = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1
        return era * 146_097 + yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear - 719_468
    }
}

/// A point in time as calendar date and clock time, UTC.
public struct CivilTime: Sendable, Equatable {
    /// The calendar date in UTC.
    public let date: CivilDate
    /// The hour of the day, 0 to 23.
    public let hour: Int
    /// The minute of the hour, 0 to 59.
    public let minute: Int
    /// The second of the minute, 0 to 59; Unix time has no leap seconds.
    public let second: Int
    /// The nanosecond of the second, 0 to 999,999,999.
    public let nanosecond: Int
    /// 0 is Sunday.
    public let weekday: Int

    /// Converts nanoseconds since 1970, UTC; a negative number gives an earlier time.
    public init(unixNanoseconds: Int64) {
        let (seconds, nanosecond) = unixNanoseconds.floorDivided(by: 1_000_000_000)
        let (wholeDays, rest) = seconds.floorDivided(by: 86_400)
        let (days, ofDay) = (Int(wholeDays), Int(rest))
        self.nanosecond = Int(nanosecond)
        date = CivilDate(daysSince1970: days)
        (hour, minute, second) = (ofDay / 3_600, ofDay / 60 % 60, ofDay % 60)
        weekday = ((days + 4) % 7 + 7) % 7
    }

    /// `2026-01-31T23:59:59.123Z`
    public var rfc3339: String {
        let time = "\(Self.pad(hour)):\(Self.pad(minute)):\(Self.pad(second))"
        let day = "\(Self.pad(date.year, 4))-\(Self.pad(date.month))-\(Self.pad(date.day))"
        return "\(day)T\(time).\(Self.pad(nanosecond / 1_000_000, 3))Z"
    }

    /// `Sat, 31 Jan 2026 23:59:59 GMT` (RFC 9110 §5.6.7).
    public var httpDate: String {
        let days = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"]
        let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
        let time = "\(Self.pad(hour)):\(Self.pad(minute)):\(Self.pad(second))"
        return "\(days[weekday]), \(Self.pad(date.day)) \(months[date.month - 1]) \(Self.pad(date.year, 4)) \(time) GMT"
    }

    /// `number` with leading zeros.
    public static func pad(_ number: Int, _ width: Int = 2) -> String {
        let digits = String(number)
        return String(repeating: "0", count: max(0, width - digits.count)) + digits
    }
}

extension Int64 {
    /// The quotient rounded down, and the remainder, which is never negative.
    fileprivate func floorDivided(by divisor: Int64) -> (quotient: Int64, remainder: Int64) {
        let (quotient, remainder) = quotientAndRemainder(dividingBy: divisor)
        return remainder < 0 ? (quotient - 1, remainder + divisor) : (quotient, remainder)
    }
}
