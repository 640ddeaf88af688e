import Glibc
import LinuxSystem
import Profiles
import Synchronization

/// Memory that the gateway writes profiles to, and the process of a plugin reads them from. Thread-safe.
///
/// The gateway writes it as a file and does not map it: when memory is short, a write fails, where a store would end the process.
final class ProfileMemory: Sendable {
    /// How many bytes there may be; memory is taken only for what is used.
    static let size = 16 << 30

    let file: FileDescriptor
    /// The places in use, in order.
    private let used = Mutex<[SharedPlace]>([])

    init() throws(SystemError) { file = try SharedMapping.anonymousFile("profiles", count: Self.size) }

    /// Writes a profile, encoded as in the spool.
    func write(_ profile: ReceivedProfile) throws(SystemError) -> SharedPlace {
        let head = profile.encodedHead
        guard let place = take(profile.encodedByteCount) else { throw SystemError("write a profile to shared memory", code: ENOSPC) }
        do throws(SystemError) {
            try unsafe file.writeAll(head.span.bytes, at: place.offset)
            var offset = place.offset + head.count
            for index in 0..<profile.sampleCount {
                try profile.withSample(index) { (bytes) throws(SystemError) in
                    try file.writeAll(bytes, at: offset)
                    offset += bytes.byteCount
                }
            }
        } catch {
            release(place)
            throw error
        }
        return place
    }

    /// Takes the first gap that is large enough; small ones come from the front again and again, so that their pages stay few.
    private func take(_ count: Int) -> SharedPlace? {
        used.withLock { used in
            var (index, offset) = (0, 0)
            while index < used.count, used[index].offset - offset < count {
                offset = used[index].offset + used[index].count
                index += 1
            }
            guard Self.size - offset >= count else { return nil }
            let place = SharedPlace(offset: offset, count: count)
            used.insert(place, at: index)
            return place
        }
    }

    /// Releases a place; one that is not in use is ignored, because the plugin's process names it.
    func release(_ place: SharedPlace) {
        guard used.withLock({ $0.contains(place) }) else { return }
        // A large profile is rare, and its pages would stay taken. They are returned before the place can be taken again.
        if place.count >= Self.largePlace { file.punch(place.offset, place.count) }
        used.withLock { used in
            if let index = used.firstIndex(of: place) { used.remove(at: index) }
        }
    }

    private static let largePlace = 4 << 20

    /// The bytes in use.
    var byteCount: Int { used.withLock { $0.reduce(0) { $0 + $1.count } } }
}
