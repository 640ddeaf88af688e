package import LinuxSystem
import PluginABI

/// The encoding of a profile in a record of the spool: see `docs/spool-format.md`.
extension ReceivedProfile {
    /// Everything but the samples' bytes, which follow it in the record, one sample after another.
    package var encodedHead: [UInt8] {
        var writer = LittleEndianWriter(capacity: 512)
        let view = unsafe view.pointee
        unsafe writer.add(view.api.rawValue)
        unsafe writer.add(view.received_ns)
        unsafe writer.add(view.from_ns)
        unsafe writer.add(view.until_ns)
        unsafe writer.add(view.tenant)
        unsafe writer.add(view.path)
        unsafe writer.add(view.query)
        unsafe writer.add(view.format)
        unsafe writer.add(view.content_type)
        unsafe writer.add(view.content_encoding)
        unsafe writer.add(UnsafeBufferPointer(start: view.labels, count: view.label_count))
        let peer = unsafe view.peer.count > 0 ? (ProfileContent.peerHeader, view.peer) : nil
        unsafe writer.add(UnsafeBufferPointer(start: view.headers, count: view.header_count), after: peer)
        writer.add(UInt32(clamping: sampleCount))
        for index in 0..<sampleCount {
            unsafe writer.add(sample(index).id)
            unsafe writer.add(UInt64(sample(index).bytes.count))
        }
        return writer.bytes
    }

    /// The size of the encoded profile, with its samples' bytes.
    package var encodedByteCount: Int {
        let view = unsafe view.pointee
        let texts = unsafe [view.tenant, view.path, view.query, view.format, view.content_type, view.content_encoding]
        let tables = unsafe [
            UnsafeBufferPointer(start: view.labels, count: view.label_count),
            UnsafeBufferPointer(start: view.headers, count: view.header_count),
        ]
        // The interface, three times and three counts come first; a text has four bytes for its length, a sample eight more.
        var size = 4 + 3 * 8 + 3 * 4
        unsafe texts.forEach { unsafe size += 4 + $0.count }
        unsafe tables.forEach { table in unsafe table.forEach { unsafe size += 8 + $0.name.count + $0.value.count } }
        if unsafe view.peer.count > 0 { unsafe size += 8 + ProfileContent.peerHeader.utf8.count + view.peer.count }
        for index in 0..<sampleCount { unsafe size += 12 + sample(index).id.count + sample(index).bytes.count }
        return size
    }

    package var sampleCount: Int { unsafe view.pointee.sample_count }

    /// Lends the bytes of one payload; `index` is below ``sampleCount``.
    package func withSample<R, E: Error>(_ index: Int, _ body: (RawSpan) throws(E) -> R) throws(E) -> R {
        let bytes = unsafe sample(index).bytes
        guard let start = unsafe bytes.bytes else { return try body(RawSpan()) }
        return try body(unsafe RawSpan(_unsafeStart: start, byteCount: bytes.count))
    }

    private func sample(_ index: Int) -> gw_sample {
        guard let samples = unsafe view.pointee.samples else { return unsafe gw_sample() }
        return unsafe samples[index]
    }

    /// Decodes a profile; nil when the bytes are not an encoded profile.
    ///
    /// - Parameter start: where the profile begins in `bytes`, which becomes the profile's storage.
    package static func decode(_ bytes: consuming ByteBuffer, at start: Int, sequence: UInt64) -> ReceivedProfile? {
        let content = bytes.withBytes { span in
            unsafe span.bytes.withUnsafeBytes { buffer in
                var reader = unsafe LittleEndianReader(buffer, at: start)
                return ProfileContent(&reader)
            }
        }
        guard let content else { return nil }
        return ReceivedProfile(content, body: bytes, sequence: sequence)
    }
}

extension ProfileContent {
    /// The name under which the sender's address stands before the headers. No header has such a name; version 0.2.0 takes it for one,
    /// and forwards only headers that it knows.
    static let peerHeader = ":peer"

    /// Decodes a profile's head and checks what plugins rely on: a check sum shows that the bytes are those that were written,
    /// not that a gateway wrote them.
    fileprivate init?(_ reader: inout LittleEndianReader) {
        guard let api = reader.integer(UInt32.self).flatMap({ gw_api(rawValue: $0) }), [.ingest, .push].contains(api),
            let received = reader.integer(Int64.self),
            let from = reader.integer(Int64.self), let until = reader.integer(Int64.self),
            let tenant = reader.text(), let path = reader.text(), let query = reader.text(),
            let format = reader.text(), let type = reader.text(), let encoding = reader.text(),
            let labels = Self.labels(&reader), var headers = Self.labels(&reader),
            let samples = Self.samples(&reader)
        else { return nil }
        let ofTheHead = [tenant, path, query, type, encoding] + headers.flatMap { [$0.name, $0.value] }
        guard ofTheHead.allSatisfy({ Self.isText($0, ofOneLine: true) }), Self.areInOrder(labels),
            samples.allSatisfy({ Self.isText($0.id) }), api == .push || (samples.count == 1 && samples[0].id.isEmpty)
        else { return nil }
        let peer = headers.first?.name == Self.peerHeader ? headers.removeFirst().value : ""
        self.init(
            api: api, receivedAt: received, path: path, format: ProfileFormat(rawValue: format) ?? .pprof, samples: samples)
        (self.from, self.until, self.tenant, self.labels) = (from, until, tenant, LabelSet(sorted: labels))
        (self.query, contentType, contentEncoding, self.headers, self.peer) = (query, type, encoding, headers, peer)
    }

    /// Whether a text may stand in a profile, and with `ofOneLine`, for a text of a request's head, in such a head again.
    private static func isText(_ text: String, ofOneLine: Bool = false) -> Bool {
        text.utf8.allSatisfy { $0 != 0 && !(ofOneLine && ($0 == 10 || $0 == 13)) }
    }

    private static func areInOrder(_ labels: [Label]) -> Bool {
        labels.allSatisfy { isText($0.name) && isText($0.value) }
            && zip(labels, labels.dropFirst()).allSatisfy { $0.name.utf8.lexicographicallyPrecedes($1.name.utf8) }
    }

    private static func labels(_ reader: inout LittleEndianReader) -> [Label]? {
        guard let count = reader.count(smallest: 8) else { return nil }
        var labels: [Label] = []
        for _ in 0..<count {
            guard let name = reader.text(), let value = reader.text() else { return nil }
            labels.append(Label(name: name, value: value))
        }
        return labels
    }

    private static func samples(_ reader: inout LittleEndianReader) -> [Sample]? {
        guard let count = reader.count(smallest: 12) else { return nil }
        var samples: [Sample] = []
        var size = 0
        for _ in 0..<count {
            guard let id = reader.text(), let bytes = reader.integer(UInt64.self).flatMap({ Int(exactly: $0) }),
                case let (end, overflow) = size.addingReportingOverflow(bytes), !overflow
            else { return nil }
            samples.append(Sample(id: id, range: size..<end))
            size = end
        }
        let start = reader.offset
        guard size == reader.left else { return nil }
        return samples.map { Sample(id: $0.id, range: ($0.range.lowerBound + start)..<($0.range.upperBound + start)) }
    }
}
