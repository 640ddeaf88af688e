import LinuxSystem
package import Profiles
import Synchronization

extension FanOut {
    /// The profiles that were accepted last, with what became of each at its receivers; for the admin listener's page. Thread-safe.
    ///
    /// At more than ``mostPerSecond`` profiles a second only a part of them is kept, evenly spread: a link to one of them stays good for
    /// longer, and keeping them costs no more when there are more.
    package final class Recent: Sendable {
        /// How much is kept.
        package struct Bounds: Equatable, Sendable {
            package var profiles = 200
            /// The bytes of all that is kept, with bodies.
            package var bytes = 8 << 20
            /// Whether bodies are kept too.
            package var keepsBodies = true

            package init() {}

            /// Bounds that keep nothing.
            package static var none: Bounds {
                var bounds = Bounds()
                bounds.profiles = 0
                return bounds
            }
        }

        /// What has become of a profile at one receiver; texts are the destination's or the plugin's.
        package enum Fate: Sendable, Equatable {
            case queued
            case delivered
            case retrying(attempts: Int, why: String)
            case dropped(DropReason, why: String)
            case deadLetter(DropReason, why: String)
        }

        /// One kept profile.
        package struct Entry: Sendable {
            package let sequence: UInt64
            package let summary: ReceivedProfile.Summary
            /// nil when bodies are not kept.
            package let profile: ReceivedProfile?
            package let fates: [(receiver: String, fate: Fate)]
        }

        /// How many profiles a second are kept; as many may come at once after a second without any.
        package static let mostPerSecond = 1000

        private let isOn = Atomic<Bool>(false)
        /// The time up to which ``mostPerSecond`` is used up, each profile taking its part of a second, in nanoseconds of the monotonic clock.
        private let usedUntil = Atomic<Int64>(0)
        private let ring = Mutex(RecentRing())

        package init() {}

        /// Changes the bounds; what was kept under others is forgotten.
        package func change(_ bounds: Bounds) {
            ring.withLock { ring in
                guard ring.bounds != bounds else { return }
                ring = RecentRing(bounds, changes: ring.changes + 1)
                isOn.store(!ring.places.isEmpty, ordering: .relaxed)
            }
        }

        /// Counts additions and changes; two equal numbers mean that ``entries`` are the same.
        package var changes: Int { ring.withLock { $0.changes } }

        /// The kept profiles, the newest first.
        package var entries: [Entry] { ring.withLock { $0.kept }.sorted { $0.sequence > $1.sequence }.map(\.entry) }

        package subscript(sequence: UInt64) -> Entry? { ring.withLock { $0.place(of: sequence) }?.entry }

        /// The bytes that are kept.
        var byteCount: Int { ring.withLock { $0.byteCount } }

        /// Keeps profiles that were accepted at `now`, or marks those that it leaves out.
        func add(_ profiles: [ReceivedProfile], to receivers: [String], _ now: @autoclosure () -> MonotonicTime = .now) {
            guard isOn.load(ordering: .relaxed) else { return }
            let now = now()
            for profile in profiles {
                guard takesAnother(now) else {
                    profile.leaveOutOfRecent()
                    continue
                }
                // What is replaced is freed after the lock is released.
                let added = ring.withLock { $0.add(profile, receivers) }
                var isOver = added.isOver
                while isOver { isOver = ring.withLock { $0.removeOldest() }.isOver }
            }
        }

        private func takesAnother(_ now: MonotonicTime) -> Bool {
            let second: Int64 = 1_000_000_000
            let used = max(usedUntil.load(ordering: .relaxed), now.nanoseconds - second) + second / Int64(Self.mostPerSecond)
            guard used <= now.nanoseconds else { return false }
            // Two threads may take the same part of a second, which does no harm.
            usedUntil.store(used, ordering: .relaxed)
            return true
        }

        func note(_ sequence: UInt64, _ receiver: String, _ fate: @autoclosure () -> Fate) {
            guard isOn.load(ordering: .relaxed) else { return }
            ring.withLock { $0.note(sequence, receiver, fate) }
        }
    }
}

/// The places of the ring; a plain value, protected by its owner's lock.
private struct RecentRing: Sendable {
    enum Content: Sendable {
        case whole(ReceivedProfile)
        case outline(ReceivedProfile.Outline)
        case nothing
    }

    struct Place: Sendable {
        private(set) var sequence: UInt64 = 0
        private var content = Content.nothing
        private(set) var byteCount = 0
        var receivers: [String] = []
        var fates: [FanOut.Recent.Fate] = []

        /// What an entry takes beside the profile: its place, and the longest texts about it.
        private static let fixedSize = 256
        static let mostText = 256

        /// Fills the place, and returns what was in it; `fates` keeps its memory.
        mutating func fill(_ profile: ReceivedProfile, _ receivers: [String], _ bounds: FanOut.Recent.Bounds) -> Content {
            let former = content
            (sequence, self.receivers) = (profile.sequence, receivers)
            fates.removeAll(keepingCapacity: true)
            for _ in receivers { fates.append(.queued) }
            let own = Self.fixedSize + receivers.count * (MemoryLayout<FanOut.Recent.Fate>.stride + Self.mostText)
            if bounds.keepsBodies, own + profile.heldByteCount <= bounds.bytes {
                (content, byteCount) = (.whole(profile), own + profile.heldByteCount)
            } else {
                let outline = ReceivedProfile.Outline(profile)
                (content, byteCount) = (.outline(outline), own + outline.byteCount)
            }
            return former
        }

        var entry: FanOut.Recent.Entry {
            let fates = zip(receivers, fates).map { (receiver: $0, fate: $1) }
            switch content {
            case .whole(let profile):
                return FanOut.Recent.Entry(sequence: sequence, summary: profile.summary, profile: profile, fates: fates)
            case .outline(let outline):
                return FanOut.Recent.Entry(sequence: sequence, summary: outline.summary, profile: nil, fates: fates)
            case .nothing:
                return FanOut.Recent.Entry(sequence: sequence, summary: ReceivedProfile.Summary(), profile: nil, fates: fates)
            }
        }
    }

    let bounds: FanOut.Recent.Bounds
    private(set) var places: [Place]
    private(set) var byteCount = 0
    private(set) var changes: Int
    /// The number of filled places, the index of the next one to fill, and the index of each by its profile's sequence.
    private var (count, next) = (0, 0)
    private var indices: [UInt64: Int] = [:]

    init(_ bounds: FanOut.Recent.Bounds = .none, changes: Int = 0) {
        (self.bounds, self.changes) = (bounds, changes)
        places = Array(repeating: Place(), count: bounds.bytes == 0 ? 0 : bounds.profiles)
        indices.reserveCapacity(places.count)
    }

    /// Adds a profile, in the place of the oldest one when all are filled.
    ///
    /// - Returns: what it has replaced, and whether more must be removed to keep the bound of bytes.
    mutating func add(_ profile: ReceivedProfile, _ receivers: [String]) -> (Content?, isOver: Bool) {
        guard !places.isEmpty else { return (nil, false) }
        if count == places.count { forget(next) } else { count += 1 }
        let former = places[next].fill(profile, receivers, bounds)
        byteCount += places[next].byteCount
        indices[profile.sequence] = next
        next = (next + 1) % places.count
        changes &+= 1
        return (former, byteCount > bounds.bytes)
    }

    private mutating func forget(_ index: Int) {
        byteCount -= places[index].byteCount
        indices[places[index].sequence] = nil
    }

    /// Removes the oldest profile when all together have too many bytes.
    ///
    /// - Returns: what was removed, and whether more must be removed.
    mutating func removeOldest() -> (Place?, isOver: Bool) {
        guard byteCount > bounds.bytes, count > 0 else { return (nil, false) }
        let oldest = (next + places.count - count) % places.count
        let former = places[oldest]
        forget(oldest)
        places[oldest] = Place()
        count -= 1
        return (former, byteCount > bounds.bytes)
    }

    mutating func note(_ sequence: UInt64, _ receiver: String, _ fate: () -> FanOut.Recent.Fate) {
        guard let index = indices[sequence], let number = places[index].receivers.firstIndex(of: receiver) else { return }
        places[index].fates[number] = fate().shortened(to: Place.mostText)
        changes &+= 1
    }

    func place(of sequence: UInt64) -> Place? { indices[sequence].map { places[$0] } }

    /// The filled places.
    var kept: [Place] { indices.values.map { places[$0] } }
}

extension FanOut.Recent.Fate {
    /// A copy whose text has at most so many bytes.
    fileprivate func shortened(to limit: Int) -> Self {
        func cut(_ text: String) -> String {
            text.utf8.count <= limit ? text : String(decoding: text.utf8.prefix(limit - 3), as: UTF8.self) + "…"
        }
        switch self {
        case .queued, .delivered: return self
        case .retrying(let attempts, let why): return .retrying(attempts: attempts, why: cut(why))
        case .dropped(let reason, let why): return .dropped(reason, why: cut(why))
        case .deadLetter(let reason, let why): return .deadLetter(reason, why: cut(why))
        }
    }
}
