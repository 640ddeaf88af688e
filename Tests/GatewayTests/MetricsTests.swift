import Testing

@testable import Profiles
@testable import Telemetry

@Suite("The metrics page")
struct MetricsTests {
    @Test("Samples of one family are together under one heading, and families keep the order of their first samples")
    func families() {
        var page = Exposition()
        page.add(.counter, "b_total", help: "B.", [MetricLabel(name: "r", value: "1")], 1)
        page.add(.gauge, "a", help: "A.", [], 2)
        page.add(.counter, "b_total", help: "B.", [MetricLabel(name: "r", value: "2")], 3)
        #expect(
            page.text == """
                # HELP b_total B.
                # TYPE b_total counter
                b_total{r="1"} 1
                b_total{r="2"} 3
                # HELP a A.
                # TYPE a gauge
                a 2

                """)
    }

    @Test("Label values escape backslash, newline and quote, and help texts keep quotes")
    func escaping() {
        var page = Exposition()
        page.add(.gauge, "a", help: "say \"\\\n\"", [MetricLabel(name: "l", value: "x\\y\n\"z\" ü"), MetricLabel(name: "m", value: "")], 1)
        #expect(page.text == "# HELP a say \"\\\\\\n\"\n# TYPE a gauge\na{l=\"x\\\\y\\n\\\"z\\\" ü\",m=\"\"} 1\n")
    }

    @Test(
        "Whole numbers are written without a decimal point",
        arguments: [(0, "0"), (2, "2"), (-3, "-3"), (0.25, "0.25"), (1e16, "1e+16"), (999_999_999_999_999, "999999999999999")])
    func number(value: Double, expected: String) {
        var page = Exposition()
        page.add(.gauge, "a", help: "", [], value)
        #expect(page.text.hasSuffix("\na \(expected)\n"))
    }

    @Test("A histogram has cumulative buckets up to +Inf, a sum and a count")
    func histogram() {
        let histogram = Histogram()
        for nanoseconds: Int64 in [500_000, 1_000_000, 1_000_001, 60_000_000_000, 60_000_000_001] {
            histogram.observe(nanoseconds: nanoseconds)
        }
        var page = Exposition()
        page.add("h", help: "H.", [MetricLabel(name: "r", value: "x")], histogram)
        let lines = page.text.split(separator: "\n").map(String.init)
        #expect(lines.prefix(2) == ["# HELP h H.", "# TYPE h histogram"])
        #expect(lines[2] == #"h_bucket{r="x",le="0.001"} 2"#)
        #expect(lines[3] == #"h_bucket{r="x",le="0.0025"} 3"#)
        #expect(
            lines.suffix(4).map { $0.replacing(/sum.*/, with: "sum") } == [
                #"h_bucket{r="x",le="60"} 4"#, #"h_bucket{r="x",le="+Inf"} 5"#, "h_sum", #"h_count{r="x"} 5"#,
            ])
        #expect(lines.count == 2 + Histogram.bounds.count + 1 + 2)
    }

    @Test("The sum of a histogram does not overflow, whatever times senders claim")
    func largeSum() {
        let histogram = Histogram()
        for _ in 0..<3 { histogram.observe(nanoseconds: .max) }
        #expect(histogram.snapshot.counts.last == 3)
        #expect(histogram.snapshot.sum > 2.7e10)
    }

    @Test("A value equal to a bound is in the bucket of that bound")
    func bounds() {
        let histogram = Histogram()
        for bound in Histogram.bounds { histogram.observe(nanoseconds: Int64((bound * 1e9).rounded())) }
        #expect(histogram.snapshot.counts == Histogram.bounds.map { _ in 1 } + [0])
    }
}
