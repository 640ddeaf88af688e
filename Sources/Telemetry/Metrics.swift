import LinuxSystem
import Synchronization

/// A number that only grows. Thread-safe.
package final class Counter: Sendable {
    private let count = Atomic<Int>(0)

    package init() {}

    package func add(_ amount: Int = 1) { count.wrappingAdd(amount, ordering: .relaxed) }
    package var value: Int { count.load(ordering: .relaxed) }
}

/// Durations counted by size, with the bounds that are usual for Prometheus. Thread-safe.
package final class Histogram: Sendable {
    static let bounds: [Double] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60]

    private let buckets = bounds.map { _ in Counter() } + [Counter()]
    /// The bits of the sum in seconds. Nanoseconds in 64 bits would overflow: a sender may claim any time.
    private let sum = Atomic<UInt64>(0)

    package init() {}

    package func observe(nanoseconds amount: Int64) {
        let seconds = Double(amount) / 1e9
        buckets[Self.bounds.firstIndex { seconds <= $0 } ?? Self.bounds.count].add()
        var old = sum.load(ordering: .relaxed)
        while true {
            let new = (Double(bitPattern: old) + seconds).bitPattern
            let (isDone, now) = sum.weakCompareExchange(expected: old, desired: new, ordering: .relaxed)
            if isDone { return }
            old = now
        }
    }

    /// How many durations were counted, and their sum in seconds.
    package var total: (count: Int, seconds: Double) {
        (buckets.reduce(0) { $0 + $1.value }, Double(bitPattern: sum.load(ordering: .relaxed)))
    }

    /// The number of durations in each bucket, the last one for durations above every bound, and their sum in seconds.
    var snapshot: (counts: [Int], sum: Double) { (buckets.map(\.value), Double(bitPattern: sum.load(ordering: .relaxed))) }
}

/// One label of a metric: a name and its value.
package struct MetricLabel: Equatable, Sendable {
    package let name: String
    package let value: String

    package init(name: String, value: String) { (self.name, self.value) = (name, value) }
}

/// Writes the Prometheus text format, version 0.0.4, family by family.
///
/// Samples of one family may come from several sources; they are written together, as the format requires.
package struct Exposition {
    package enum Kind: String { case counter, gauge, histogram }

    private struct Family {
        let kind: Kind
        let help: String
        var lines: [String] = []
    }

    private var families: [String: Family] = [:]
    private var order: [String] = []

    package init() {}

    package mutating func add(_ kind: Kind, _ name: String, help: String, _ labels: [MetricLabel] = [], _ value: Double) {
        append(kind, name, help, [name + Self.text(labels) + " " + Self.text(value)])
    }

    package mutating func add(_ kind: Kind, _ name: String, help: String, _ labels: [MetricLabel] = [], _ value: Int) {
        append(kind, name, help, [name + Self.text(labels) + " " + String(value)])
    }

    package mutating func add(_ name: String, help: String, _ labels: [MetricLabel] = [], _ histogram: Histogram) {
        let (counts, sum) = histogram.snapshot
        var total = 0
        var lines: [String] = []
        for (bound, count) in zip(Histogram.bounds.map(Self.text) + ["+Inf"], counts) {
            total += count
            lines.append("\(name)_bucket\(Self.text(labels + [MetricLabel(name: "le", value: bound)])) \(total)")
        }
        lines.append("\(name)_sum\(Self.text(labels)) \(Self.text(sum))")
        lines.append("\(name)_count\(Self.text(labels)) \(total)")
        append(.histogram, name, help, lines)
    }

    private mutating func append(_ kind: Kind, _ name: String, _ help: String, _ lines: [String]) {
        if families[name] == nil {
            families[name] = Family(kind: kind, help: help)
            order.append(name)
        }
        // A family with two types would make the whole page invalid; the first type stays.
        if families[name]?.kind == kind { families[name]?.lines += lines }
    }

    /// The whole page.
    package var text: String {
        var page = ""
        for name in order {
            guard let family = families[name] else { continue }
            page += "# HELP \(name) \(Self.escaped(family.help, quotes: false))\n# TYPE \(name) \(family.kind.rawValue)\n"
            for line in family.lines { page += line + "\n" }
        }
        return page
    }

    private static func text(_ labels: [MetricLabel]) -> String {
        if labels.isEmpty { return "" }
        return "{" + labels.map { "\($0.name)=\"\(escaped($0.value, quotes: true))\"" }.joined(separator: ",") + "}"
    }

    private static func text(_ value: Double) -> String {
        value == value.rounded() && abs(value) < 1e15 ? String(Int(value)) : "\(value)"
    }

    private static func escaped(_ text: String, quotes: Bool) -> String {
        var result = ""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\\": result += "\\\\"
            case "\n": result += "\\n"
            case "\"" where quotes: result += "\\\""
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result
    }
}
