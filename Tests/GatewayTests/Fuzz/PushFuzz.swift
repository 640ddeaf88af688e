import LinuxSystem
import PluginABI
import PushWire

@testable import ProfileAPI
@testable import Profiles

/// A message in protobuf is refused, or is within its bounds and the same when it is written and read again.
func fuzzProtobuf(_ bytes: [UInt8]) {
    guard let request = try? PushProtobuf.parse(bytes.span) else { return }
    check(request, bytes)
}

/// A message in JSON is refused, or is within its bounds and the same when it is written as protobuf and read again.
func fuzzJSON(_ bytes: [UInt8]) {
    var samples = ByteBuffer()
    guard let request = try? PushJSON.parse(bytes.span, samples: &samples) else { return }
    check(request, samples.withBytes { bytes in bytes.withUnsafeBytes { Array($0) } })
}

/// Checks that a request is within its bounds, and the same when it is written and read again.
private func check(_ request: DecodedPush, _ bytes: [UInt8]) {
    for series in request.series {
        checkOrder(series.labels)
        promise(series.samples.allSatisfy { 0 <= $0.range.lowerBound && $0.range.upperBound <= bytes.count }, "a sample out of bounds")
        let texts = series.labels.labels.flatMap { [$0.name, $0.value] } + series.samples.map(\.id)
        promise(!texts.contains { $0.utf8.contains(0) }, "a NUL in a text")
        checkLayout(series, bytes)
    }
    // A sample that reaches beyond its message would count bytes twice.
    promise(request.series.flatMap(\.samples).reduce(0) { $0 + $1.range.count } <= bytes.count, "samples that overlap")
    let written = Array(request.series.map { message($0, bytes) }.joined())
    guard let again = try? PushProtobuf.parse(written.span) else { fatalError("broken promise: its own message is not read again") }
    promise(again.series.count == request.series.count, "another count of series")
    for (series, read) in zip(request.series, again.series) {
        promise(series.labels == read.labels && series.samples.map(\.id) == read.samples.map(\.id), "other texts when read again")
        let isSame = zip(series.samples, read.samples).allSatisfy { bytes[$0.range] == written[$1.range] }
        promise(isSame, "other samples when read again")
    }
}

/// Writes a series as a field of a message in protobuf.
private func message(_ series: DecodedPush.Series, _ bytes: [UInt8]) -> [UInt8] {
    let labels = series.labels.labels.map { Wire.label($0.name, $0.value) }
    let samples = series.samples.map { Wire.bytes(2, Wire.bytes(1, Array(bytes[$0.range])) + Wire.text(2, $0.id)) }
    return Wire.bytes(1, Array((labels + samples).joined()))
}

/// Checks that the view for plugins has the series' own texts and bytes.
private func checkLayout(_ series: DecodedPush.Series, _ bytes: [UInt8]) {
    var content = ProfileContent(api: .push, receivedAt: 0, path: "/", format: .pprof, samples: series.samples)
    content.labels = series.labels
    let profile = ReceivedProfile(content, body: buffer(of: bytes))
    let view = profile.view.pointee
    let labels = UnsafeBufferPointer(start: view.labels, count: view.label_count)
    promise(
        labels.count == series.labels.labels.count
            && zip(labels, series.labels.labels).allSatisfy { $0.name.holds($1.name.utf8) && $0.value.holds($1.value.utf8) },
        "other labels in the view")
    let samples = UnsafeBufferPointer(start: view.samples, count: view.sample_count)
    promise(
        samples.count == series.samples.count
            && zip(samples, series.samples).allSatisfy { $0.id.holds($1.id.utf8) && $0.bytes.holds(bytes[$1.range]) },
        "other samples in the view")
    withExtendedLifetime(profile) {}
}

extension gw_slice {
    fileprivate func holds(_ content: some Collection<UInt8>) -> Bool {
        UnsafeBufferPointer(start: bytes, count: count).elementsEqual(content)
    }
}

private func buffer(of bytes: [UInt8]) -> ByteBuffer {
    var buffer = ByteBuffer()
    do { try buffer.append(bytes.span.bytes) } catch { fatalError("\(error)") }
    return buffer
}

// MARK: gzip

private func inflated(_ bytes: [UInt8], limit: Int) -> Result<[UInt8], Gzip.Failure> {
    do throws(Gzip.Failure) {
        let content = try Gzip.inflate(buffer(of: bytes), limit: limit)
        promise(content.count <= limit, "more than the limit")
        return .success(content.withBytes { bytes in bytes.withUnsafeBytes { Array($0) } })
    } catch { return .failure(error) }
}

/// Input never inflates beyond a limit, and deflated input inflates to itself with a limit of exactly its size.
func fuzzGzip(_ bytes: [UInt8]) {
    let limit = 1 << 17
    if case .success(let content) = inflated(bytes, limit: limit) {
        promise(inflated(bytes, limit: content.count) == .success(content), "another content at its own size")
        if !content.isEmpty { promise(inflated(bytes, limit: content.count - 1) == .failure(.tooLarge), "a limit that does not hold") }
    }
    guard let deflated = Gzip.deflate(bytes) else { fatalError("broken promise: it does not deflate") }
    promise(inflated(deflated, limit: bytes.count) == .success(bytes), "another content after deflating")
    if !bytes.isEmpty { promise(inflated(deflated, limit: bytes.count - 1) == .failure(.tooLarge), "a limit that does not hold") }
}
