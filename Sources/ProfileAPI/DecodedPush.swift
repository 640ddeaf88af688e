import LinuxSystem
import Profiles
import Telemetry

/// A decoded `push.v1.DecodedPush`: the labels of each series, and the ranges of its samples' bytes.
struct DecodedPush {
    struct Series {
        /// The labels in the order received; ``DecodedPush/add(_:)`` sorts them.
        fileprivate(set) var unsorted: [Label] = []
        var labels = LabelSet()
        var samples: [ProfileContent.Sample] = []
    }

    var series: [Series] = []

    /// Bounds on what one request may make the gateway allocate beside its bytes; far above what an SDK sends.
    static let maximumSeries = 16_384
    static let maximumSamples = 65_536
    static let maximumLabels = 256
    /// Four times Pyroscope's own bound.
    static let maximumNameLength = 4096
    /// For all series together.
    static let maximumLabelsInAll = 65_536

    /// Why a message is refused, as `invalid_argument`.
    struct Malformed: Error, Equatable {
        let reason: String
        init(_ reason: String) { self.reason = reason }
    }

    private var sampleCount = 0
    private var labelCount = 0

    mutating func add(_ new: Series) throws(Malformed) {
        guard series.count < Self.maximumSeries else { throw Malformed("more than \(Self.maximumSeries) series") }
        sampleCount += new.samples.count
        guard sampleCount <= Self.maximumSamples else { throw Malformed("more than \(Self.maximumSamples) samples") }
        labelCount += new.unsorted.count
        guard labelCount <= Self.maximumLabelsInAll else { throw Malformed("more than \(Self.maximumLabelsInAll) labels") }
        var sorted = new
        do throws(LabelSet.DuplicateName) {
            sorted.labels = try LabelSet(distinct: new.unsorted)
        } catch { throw Malformed("duplicate label \(quotedForPeople(error.name))") }
        sorted.unsorted = []
        series.append(sorted)
    }
}

extension DecodedPush.Series {
    mutating func add(label name: String, _ value: String) throws(DecodedPush.Malformed) {
        guard unsorted.count < DecodedPush.maximumLabels else {
            throw DecodedPush.Malformed("more than \(DecodedPush.maximumLabels) labels in a series")
        }
        guard name.utf8.count <= DecodedPush.maximumNameLength else {
            throw DecodedPush.Malformed("a label name of more than \(DecodedPush.maximumNameLength) bytes")
        }
        for text in [name, value] where text.utf8.span.contains(0) {
            throw DecodedPush.Malformed("label \(quotedForPeople(name)) contains a NUL character")
        }
        if unsorted.isEmpty { unsorted.reserveCapacity(8) }
        unsorted.append(Label(name: name, value: value))
    }
}
