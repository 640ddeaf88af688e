import LinuxSystem
import PluginKit

/// One profile as a `push.v1.PushRequest` of one series, in protobuf; at one address as long as it lives.
final class PushMessage {
    let bytes: ByteBuffer

    /// Writes labels and samples; the samples' bytes are copied once, into the message.
    ///
    /// - Throws: ENOMEM.
    init(_ labels: [(name: String, value: String)], _ profile: Profile) throws(SystemError) {
        var writer = ProtobufWriter()
        let samples = (0..<profile.sampleCount).map { profile.sample($0) }
        let labelSizes = labels.map { ProtobufWriter.size($0.name.utf8.count) + ProtobufWriter.size($0.value.utf8.count) }
        let sampleSizes = samples.map { sample in
            unsafe ProtobufWriter.size(sample.bytes.count) + (sample.id.isEmpty ? 0 : ProtobufWriter.size(sample.id.utf8.count))
        }
        let seriesSize = (labelSizes + sampleSizes).reduce(0) { $0 + ProtobufWriter.size($1) }
        try writer.begin(1, seriesSize)
        for index in labels.indices {
            try writer.begin(1, labelSizes[index])
            try writer.text(1, labels[index].name)
            try writer.text(2, labels[index].value)
        }
        for (sample, size) in zip(samples, sampleSizes) {
            try writer.begin(2, size)
            try writer.field(1, unsafe RawSpan(_unsafeBytes: sample.bytes))
            if !sample.id.isEmpty { try writer.text(2, sample.id) }
        }
        bytes = writer.take()
    }

    /// The labels that a Pyroscope server may be sent: Alloy's choice drops what is reserved but the profile's name and
    /// whether its values are deltas; external labels win.
    static func labels(
        of profile: Profile, external: [(name: String, value: String)]
    ) -> [(name: String, value: String)] {
        let kept = profile.labels.filter { label in
            (!label.name.hasPrefix("__") || label.name == "__name__" || label.name == "__delta__")
                && !external.contains { $0.name == label.name }
        }
        return (kept + external).sorted { $0.name < $1.name }
    }
}

/// Writes length-delimited protobuf fields with numbers below 16.
private struct ProtobufWriter: ~Copyable {
    private var bytes = ByteBuffer()

    /// What a field of `count` bytes takes with its tag and length.
    static func size(_ count: Int) -> Int { 1 + varint(count).count + count }

    mutating func begin(_ number: UInt8, _ count: Int) throws(SystemError) {
        try bytes.reserve(count + 10)
        let head = [number << 3 | 2] + Self.varint(count)
        try unsafe bytes.append(head.span.bytes)
    }

    mutating func field(_ number: UInt8, _ content: RawSpan) throws(SystemError) {
        try begin(number, content.byteCount)
        try bytes.append(content)
    }

    mutating func text(_ number: UInt8, _ text: String) throws(SystemError) {
        let content = Array(text.utf8)
        try unsafe field(number, content.span.bytes)
    }

    consuming func take() -> ByteBuffer { bytes }

    private static func varint(_ count: Int) -> [UInt8] {
        var rest = count
        var bytes: [UInt8] = []
        while rest >= 0x80 {
            bytes.append(UInt8(rest & 0x7F) | 0x80)
            rest >>= 7
        }
        return bytes + [UInt8(rest)]
    }
}
