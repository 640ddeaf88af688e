import LinuxSystem
import Profiles
import Synchronization

/// The labels of the names that came last: a sender sends the same name with every profile, and reading it takes more time than the rest
/// of a request's head.
///
/// Any thread may use it, and none waits for another one: where two need the same place, the second one reads its name.
final class KnownNames: Sendable {
    /// The most bytes of a name that is kept, which bounds the memory.
    static let longest = 1024
    private static let placeCount = 128

    private struct Known {
        let name: [UInt8]
        let labels: LabelSet
    }

    /// Keeps the name that came last among those whose checksums lead here.
    private final class Place: Sendable {
        let known = Mutex<Known?>(nil)
    }

    private let places = (0..<placeCount).map { _ in Place() }

    /// The labels of a name; `read` reads them, unless they are known.
    func labels<E>(_ name: ArraySlice<UInt8>, _ read: () throws(E) -> LabelSet) throws(E) -> LabelSet {
        guard name.count <= Self.longest else { return try read() }
        let place = unsafe places[Int(CRC32C.of(name.span.bytes)) % Self.placeCount]
        let labels = place.known.withLockIfAvailable { known -> LabelSet? in
            guard let known, known.name[...] == name else { return nil }
            return known.labels
        }
        if let labels = labels ?? nil { return labels }
        let read = try read()
        _ = place.known.withLockIfAvailable { $0 = Known(name: Array(name), labels: read) }
        return read
    }
}
