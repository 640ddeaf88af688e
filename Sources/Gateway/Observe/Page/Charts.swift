import LinuxSystem
import Telemetry

/// The small charts of the last 15 minutes.
enum Charts {
    private static let (width, height) = (300.0, 60.0)

    static func figures(_ samples: [Sample]) -> HTML {
        let charts: [HTML] = [
            figure("Profiles received", "/s", rates(samples, \.profiles), samples, ReadableNumber.rate),
            figure("Bytes received", "/s", rates(samples, \.bytes), samples, size),
            figure("Deliveries", "/s", rates(samples, \.delivered), samples, ReadableNumber.rate),
            figure("Dropped or dead letters", "/s", rates(samples, \.failed), samples, ReadableNumber.rate),
            figure("Profiles queued", "", samples.map { Double($0.queued) }, samples, count),
            figure("Memory", "", samples.map { Double($0.memory) }, samples, size),
        ]
        return "<div class=\"charts\">\(charts)</div>"
    }

    private static func size(_ value: Double) -> String { readableSize(Int(min(value, 1e18))) }
    private static func count(_ value: Double) -> String { ReadableNumber.count(Int(min(value, 1e18))) }

    /// The rate since the sample before, for each sample; 0 for the first one, and where a count went back because a reload removed
    /// what was counted.
    private static func rates(_ samples: [Sample], _ part: (Sample) -> Int) -> [Double] {
        samples.indices.map { index in
            guard index > 0 else { return 0 }
            let span = Double(samples[index].at.nanoseconds - samples[index - 1].at.nanoseconds) / 1e9
            return span > 0 ? max(0, Double(part(samples[index])) - Double(part(samples[index - 1]))) / span : 0
        }
    }

    private static func figure(
        _ title: HTML, _ unit: HTML, _ values: [Double], _ samples: [Sample], _ text: (Double) -> String
    ) -> HTML {
        let (now, most) = (values.last ?? 0, values.max() ?? 0)
        let said: HTML = "now \(text(now))\(unit), at most \(text(most))\(unit) in 15 minutes"
        return """
            <figure><figcaption>\(title) <strong>\(text(now))\(unit)</strong></figcaption>\
            <svg class="chart" viewBox="0 0 300 64" preserveAspectRatio="none" role="img" aria-label="\(title): \(said)">\
            <path d="\(HTML(escaping: path(values, samples, most)))"/></svg><p class="note">\(said)</p></figure>
            """
    }

    /// A line from the left edge, 15 minutes ago, to the right one.
    private static func path(_ values: [Double], _ samples: [Sample], _ most: Double) -> String {
        guard let end = samples.last?.at else { return "" }
        let span = 15 * 60.0
        var path = ""
        for (value, sample) in zip(values, samples) {
            let age = Double(end.nanoseconds - sample.at.nanoseconds) / 1e9
            let x = width * max(0, 1 - age / span)
            let y = 2 + height * (1 - (most > 0 ? value / most : 0))
            path += "\(path.isEmpty ? "M" : "L")\(tenths(x)) \(tenths(y))"
        }
        return path
    }

    private static func tenths(_ value: Double) -> String {
        let scaled = Int((value * 10).rounded())
        return "\(scaled / 10).\(scaled % 10)"
    }
}
