import HTTPServer
import LinuxSystem
import ProfileArchive
import Profiles

/// The key by which identical requests are recognized: a SHA-256 digest.
struct RequestKey: Hashable, Sendable {
    private var words: InlineArray<4, UInt64>

    /// - Returns: nil unless the digest has 32 bytes.
    init?(_ digest: RawSpan) {
        guard digest.byteCount == SHA256Stream.size else { return nil }
        words = [0, 0, 0, 0]
        for word in 0..<4 { words[word] = littleEndian(digest, at: 8 * word) }
    }

    var bytes: [UInt8] {
        var writer = LittleEndianWriter()
        for word in 0..<4 { writer.add(words[word]) }
        return writer.bytes
    }

    static func == (a: RequestKey, b: RequestKey) -> Bool { (0..<4).allSatisfy { a.words[$0] == b.words[$0] } }

    // A word of a SHA-256 digest is random enough as it is.
    func hash(into hasher: inout Hasher) { hasher.combine(words[0]) }
}

/// Computes a request's key while its body arrives; used by one thread.
final class RequestHash {
    private let hash = SHA256Stream()

    /// Hashes everything besides the body that determines how the request is handled: its listener, tenant, path, query and
    /// encoding headers.
    init(listener: String, _ content: borrowing ProfileContent, _ head: RequestHead) {
        for text in [listener, content.tenant, content.path, content.query] { add(Array(text.utf8)[...]) }
        for name in ["content-type", "content-encoding", "grpc-encoding"] {
            let values = Array(head.values(of: name))
            add(UInt64(values.count))
            for value in values { add(value) }
        }
    }

    // Each text is preceded by its length, so that different heads never hash the same bytes. The body comes last and needs no
    // length.
    private func add(_ bytes: ArraySlice<UInt8>) {
        add(UInt64(bytes.count))
        unsafe hash.add(bytes.span.bytes)
    }

    private func add(_ count: UInt64) {
        var writer = LittleEndianWriter()
        writer.add(count)
        unsafe hash.add(writer.bytes.span.bytes)
    }

    /// Hashes the next piece of the body.
    func add(_ piece: Span<UInt8>) { unsafe hash.add(piece.bytes) }

    /// Returns the key of everything hashed.
    func finish() -> RequestKey? {
        let digest = hash.finish()
        return unsafe RequestKey(digest.span.bytes)
    }
}
