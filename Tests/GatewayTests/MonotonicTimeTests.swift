import LinuxSystem
import Testing

@Suite("Monotonic time")
struct MonotonicTimeTests {
    @Test(
        "Adding a duration saturates at never",
        arguments: [
            (0, Duration.seconds(1), 1_000_000_000), (5, .zero, 5), (1_000_000_000, .seconds(-1), 0), (.max, .nanoseconds(1), .max),
            (1, .nanoseconds(Int64.max), .max), (0, .nanoseconds(Int64.max), .max), (1, .seconds(Int64.max), .max),
        ] as [(Int64, Duration, Int64)])
    func adding(start: Int64, span: Duration, end: Int64) {
        #expect((MonotonicTime(nanoseconds: start) + span).nanoseconds == end)
    }

    @Test(
        "A duration in nanoseconds is clamped to 64 bits",
        arguments: [
            (.zero, 0), (.milliseconds(1500), 1_500_000_000), (.milliseconds(-1500), -1_500_000_000), (.nanoseconds(Int64.max), .max),
            (.nanoseconds(Int64.max) + .nanoseconds(1), .max), (.seconds(Int64.max), .max), (.seconds(-10_000_000_000), .min),
            (.nanoseconds(Int64.min), .min), (.nanoseconds(Int64.min) - .nanoseconds(1), .min),
            (.nanoseconds(Int64.min) + .nanoseconds(1), -.max),
            (.seconds(Int64.min), .min), (Duration(secondsComponent: 7, attosecondsComponent: 999_999_999), 7_000_000_000),
            (Duration(secondsComponent: 0, attosecondsComponent: -1_999_999_999), -1), (.seconds(18_446_744_074), .max),
        ] as [(Duration, Int64)])
    func spans(span: Duration, nanoseconds: Int64) {
        #expect(span.inNanoseconds == nanoseconds)
    }

    @Test("Times can be compared and subtracted")
    func comparing() {
        let (early, late) = (MonotonicTime(nanoseconds: 5), MonotonicTime(nanoseconds: 8))
        #expect(early < late && late < .never)
        #expect(late.since(early) == .nanoseconds(3))
        #expect(MonotonicTime.now <= MonotonicTime.now)
    }
}
