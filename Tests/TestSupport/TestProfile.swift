import Glibc
import PluginABI

/// A profile as the gateway passes it, in its own memory pages.
///
/// `@unchecked`: nothing changes after the initializer.
final class TestProfile: @unchecked Sendable {
    typealias Pair = (name: String, value: String)

    let view: UnsafeMutablePointer<gw_profile>
    private let arena: UnsafeMutableRawPointer
    private let capacity: Int
    private var used = 0

    /// The time 2026-01-31T23:59:59.123456789Z.
    static let someTime: Int64 = 1_769_903_999_123_456_789
    static let checkout: [Pair] = [("__name__", "checkout"), ("env", "prod"), ("service_name", "checkout")]

    init(
        sequence: UInt64 = 7, api: gw_api = .ingest, receivedAt: Int64 = someTime, from: Int64 = 0, until: Int64 = 0,
        tenant: String = "", labels: [Pair] = checkout, path: String = "/ingest",
        query: String = "name=checkout%7Benv%3Dprod%7D&format=pprof", format: String = "pprof", contentType: String = "",
        contentEncoding: String = "", headers: [Pair] = [], samples: [(id: String, bytes: [UInt8])] = [("", Array("profile".utf8))]
    ) {
        let texts = [tenant, path, query, format, contentType, contentEncoding] + (labels + headers).flatMap { [$0.name, $0.value] }
        capacity = texts.reduce(samples.reduce(65_536) { $0 + $1.id.utf8.count + $1.bytes.count + 128 }) { $0 + $1.utf8.count + 64 }
        guard let pages = mmap(nil, capacity, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), pages != MAP_FAILED else {
            fatalError("no memory for a profile")
        }
        arena = pages
        view = pages.bindMemory(to: gw_profile.self, capacity: 1)
        used = MemoryLayout<gw_profile>.size
        var profile = gw_profile()
        profile.size = MemoryLayout<gw_profile>.size
        profile.sequence = sequence
        profile.api = api
        (profile.received_ns, profile.from_ns, profile.until_ns) = (receivedAt, from, until)
        profile.tenant = slice(tenant)
        (profile.labels, profile.label_count) = (table(labels), labels.count)
        (profile.path, profile.query) = (slice(path), slice(query))
        (profile.format, profile.content_type, profile.content_encoding) = (slice(format), slice(contentType), slice(contentEncoding))
        (profile.headers, profile.header_count) = (table(headers), headers.count)
        (profile.samples, profile.sample_count) = (
            copy(samples.map { gw_sample(id: slice($0.id), bytes: slice($0.bytes)) }), samples.count
        )
        view.initialize(to: profile)
    }

    deinit { munmap(arena, capacity) }

    /// Makes every further access to the profile crash the process.
    func forbidUse() { mprotect(arena, capacity, PROT_NONE) }

    /// Copies values into the profile's memory.
    private func copy<T>(_ values: [T]) -> UnsafePointer<T>? {
        if values.isEmpty { return nil }
        let start = (used + 15) / 16 * 16
        used = start + MemoryLayout<T>.stride * values.count
        precondition(used <= capacity)
        let room = (arena + start).bindMemory(to: T.self, capacity: values.count)
        room.initialize(from: values, count: values.count)
        return UnsafePointer(room)
    }

    private func slice(_ bytes: [UInt8]) -> gw_slice { gw_slice(bytes: copy(bytes), count: bytes.count) }
    private func slice(_ text: String) -> gw_slice { slice(Array(text.utf8)) }

    private func table(_ pairs: [Pair]) -> UnsafePointer<gw_label>? {
        copy(pairs.map { gw_label(name: slice($0.name), value: slice($0.value)) })
    }
}
