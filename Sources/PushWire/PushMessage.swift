public import LinuxSystem

/// A `push.v1.PushRequest` encoded as protobuf; its bytes stay at one address.
public final class PushMessage: Sendable {
    /// One payload; its bytes are borrowed while the message is written.
    @safe public struct Sample {
        let id: String
        let bytes: UnsafeRawBufferPointer

        /// - Parameter id: may be empty, as on `/ingest`.
        public init(id: String, bytes: UnsafeRawBufferPointer) {
            self.id = id
            unsafe self.bytes = unsafe bytes
        }

        fileprivate var size: Int {
            unsafe ProtobufWriter.size(bytes.count) + (id.isEmpty ? 0 : ProtobufWriter.size(id.utf8.count))
        }
    }

    /// The encoded message, owned by this object.
    public let bytes: ByteBuffer

    /// Joins requests into one with all their series; for protobuf, concatenated messages are one message with joined lists.
    ///
    /// - Throws: ENOMEM.
    public init(joining messages: [PushMessage]) throws(SystemError) {
        var all = ByteBuffer()
        try all.reserve(messages.reduce(0) { $0 + $1.bytes.count })
        for message in messages { try message.bytes.withBytes { (bytes) throws(SystemError) in try unsafe all.append(bytes.bytes) } }
        bytes = all
    }

    /// Encodes labels and samples; the samples' bytes are copied once.
    ///
    /// - Throws: ENOMEM.
    public init(labels: [(name: String, value: String)], samples: [Sample]) throws(SystemError) {
        var writer = ProtobufWriter()
        let labelSizes = labels.map { ProtobufWriter.size($0.name.utf8.count) + ProtobufWriter.size($0.value.utf8.count) }
        let series = (labelSizes + samples.map(\.size)).reduce(0) { $0 + ProtobufWriter.size($1) }
        try writer.begin(1, series)
        for (label, size) in zip(labels, labelSizes) {
            try writer.begin(1, size)
            try writer.text(1, label.name)
            try writer.text(2, label.value)
        }
        for sample in samples {
            try writer.begin(2, sample.size)
            try writer.field(1, unsafe RawSpan(_unsafeBytes: sample.bytes))
            if !sample.id.isEmpty { try writer.text(2, sample.id) }
        }
        bytes = writer.take()
    }
}

/// Writes length-delimited protobuf fields with field numbers below 16.
private struct ProtobufWriter: ~Copyable {
    private var bytes = ByteBuffer()

    /// The encoded size of a field with `count` bytes, including tag and length.
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
