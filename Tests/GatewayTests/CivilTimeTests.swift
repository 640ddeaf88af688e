import LinuxSystem
import Testing

@Suite("Dates and times of the calendar")
struct CivilTimeTests {
    @Test(
        "Known dates have the right number of days since 1970",
        arguments: [
            (19_700_101, 0), (19_700_102, 1), (19_691_231, -1), (20_000_229, 11_016), (20_000_301, 11_017), (20_240_229, 19_782),
            (20_260_131, 20_484), (16_000_229, -135_081), (10_101, -719_162), (99_991_231, 2_932_896),
        ])
    func knownDate(number: Int, days: Int) throws {
        let date = try #require(CivilDate(yyyymmdd: number))
        #expect(date.daysSince1970 == days)
        #expect(CivilDate(daysSince1970: days) == date)
    }

    @Test(
        "A day that the calendar does not have is refused",
        arguments: [20_230_229, 19_000_229, 21_000_229, 20_240_230, 20_240_431, 20_241_301, 20_240_001, 20_240_100, 20_240_132, 99_999_999])
    func noSuchDay(number: Int) {
        #expect(CivilDate(yyyymmdd: number) == nil)
    }

    @Test("Every day of eight centuries converts to a date and back, in order")
    func roundTrip() throws {
        var previous = CivilDate(daysSince1970: -146_098)
        for days in -146_097...146_097 {
            let date = CivilDate(daysSince1970: days)
            let isNextDay = date.day == previous.day + 1 && date.month == previous.month
            let isNextMonth = date.day == 1 && previous.day >= 28 && date.month == previous.month % 12 + 1
            guard date.daysSince1970 == days, isNextDay || isNextMonth else {
                Issue.record("day \(days) is \(date), after \(previous)")
                return
            }
            previous = date
        }
    }

    @Test(
        "A time is written as RFC 3339 and as an HTTP date",
        arguments: [
            (0, "1970-01-01T00:00:00.000Z", "Thu, 01 Jan 1970 00:00:00 GMT"),
            (-1, "1969-12-31T23:59:59.999Z", "Wed, 31 Dec 1969 23:59:59 GMT"),
            (-1_000_000_000, "1969-12-31T23:59:59.000Z", "Wed, 31 Dec 1969 23:59:59 GMT"),
            (784_111_777_000_000_000, "1994-11-06T08:49:37.000Z", "Sun, 06 Nov 1994 08:49:37 GMT"),
            (1_709_251_199_999_999_999, "2024-02-29T23:59:59.999Z", "Thu, 29 Feb 2024 23:59:59 GMT"),
            (1_769_903_999_123_000_000, "2026-01-31T23:59:59.123Z", "Sat, 31 Jan 2026 23:59:59 GMT"),
            (Int64.max, "2262-04-11T23:47:16.854Z", "Fri, 11 Apr 2262 23:47:16 GMT"),
        ])
    func moment(nanoseconds: Int64, rfc3339: String, httpDate: String) {
        let time = CivilTime(unixNanoseconds: nanoseconds)
        #expect(time.rfc3339 == rfc3339)
        #expect(time.httpDate == httpDate)
    }

    @Test("The earliest time in nanoseconds does not crash")
    func firstMoment() async {
        await #expect(processExitsWith: .success) { _ = CivilTime(unixNanoseconds: .min) }
    }

    @Test("Numbers are padded with zeros and never cut", arguments: [(5, 2, "05"), (12, 2, "12"), (123, 2, "123"), (0, 4, "0000")])
    func pad(number: Int, width: Int, expected: String) {
        #expect(CivilTime.pad(number, width) == expected)
    }
}
