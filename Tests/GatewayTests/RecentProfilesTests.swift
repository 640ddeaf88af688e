import LinuxSystem
import Testing

@testable import Profiles
@testable import Receivers

@Suite("The profiles that the page shows")
struct RecentProfilesTests {
    private static func bounds(_ profiles: Int, bytes: Int = 8 << 20, keepsBodies: Bool = true) -> FanOut.Recent.Bounds {
        var bounds = FanOut.Recent.Bounds()
        (bounds.profiles, bounds.bytes, bounds.keepsBodies) = (profiles, bytes, keepsBodies)
        return bounds
    }

    private static func recent(_ bounds: FanOut.Recent.Bounds) -> FanOut.Recent {
        let recent = FanOut.Recent()
        recent.change(bounds)
        return recent
    }

    /// Profiles with consecutive sequences.
    private static func profiles(_ count: Int, body: Int = 10, from first: UInt64 = 1000) throws -> [ReceivedProfile] {
        try (0..<count).map { number in
            var bytes = ByteBuffer()
            try bytes.append([UInt8](repeating: 7, count: body).span.bytes)
            let content = ProfileContent(
                api: .ingest, receivedAt: 5, path: "/ingest", format: .folded, samples: [ProfileContent.Sample(range: 0..<body)])
            return ReceivedProfile(content, body: bytes, sequence: first + UInt64(number))
        }
    }

    @Test("The newest are kept, up to the bound", arguments: [(4, 4), (5, 5), (6, 5), (23, 5)])
    func count(added: Int, kept: Int) throws {
        let recent = Self.recent(Self.bounds(5))
        recent.add(try Self.profiles(added), to: ["a"])
        #expect(recent.entries.map(\.sequence) == (0..<UInt64(kept)).map { 1000 + UInt64(added) - 1 - $0 })
    }

    @Test("The bytes of all together stay at or below the bound, and the oldest go first")
    func bytes() throws {
        let unbounded = Self.recent(Self.bounds(100))
        unbounded.add(try Self.profiles(4, body: 1000), to: ["a", "b"])
        let four = unbounded.byteCount
        #expect(four > 4 * 1000)
        for (bound, kept) in [(four, 4), (four - 1, 3), (four + 1, 4), (four / 4, 1)] {
            let recent = Self.recent(Self.bounds(100, bytes: bound))
            recent.add(try Self.profiles(4, body: 1000), to: ["a", "b"])
            #expect(recent.entries.map(\.sequence) == (0..<UInt64(kept)).map { 1003 - $0 }, "\(bound)")
            #expect(recent.byteCount <= bound)
            // Each of them makes room for itself.
            recent.add(try Self.profiles(50, body: 1000, from: 1004), to: ["a", "b"])
            #expect(recent.byteCount <= bound && recent.entries.count == kept, "\(bound)")
        }
    }

    @Test("A profile that is larger than the bound is kept without its body")
    func large() throws {
        let recent = Self.recent(Self.bounds(100, bytes: 4096))
        recent.add(try Self.profiles(1, body: 5000), to: ["a"])
        #expect(recent.entries.map { $0.profile == nil } == [true])
        #expect(recent.entries.map(\.summary.byteCount) == [5000])
        #expect(recent.byteCount <= 4096)
    }

    @Test("Bodies are freed when profiles are replaced, and never kept when they are not to be")
    func bodies() throws {
        for keeps in [true, false] {
            let recent = Self.recent(Self.bounds(3, keepsBodies: keeps))
            weak var first: ReceivedProfile?
            try {
                let profiles = try Self.profiles(3)
                first = profiles[0]
                recent.add(profiles, to: ["a"])
            }()
            #expect((first != nil) == keeps)
            #expect(recent.entries.allSatisfy { ($0.profile != nil) == keeps })
            recent.add(try Self.profiles(1, from: 1003), to: ["a"])
            #expect(first == nil)
        }
    }

    @Test("Nothing is kept with a bound of 0, and after a change of the bounds")
    func off() throws {
        for bounds in [Self.bounds(0), Self.bounds(5, bytes: 0)] {
            let recent = Self.recent(bounds)
            recent.add(try Self.profiles(2), to: ["a"])
            #expect(recent.entries.isEmpty && recent[1000] == nil && recent.byteCount == 0)
        }
        let recent = Self.recent(Self.bounds(5))
        recent.add(try Self.profiles(2), to: ["a"])
        recent.change(Self.bounds(5))
        #expect(recent.entries.count == 2, "the same bounds change nothing")
        recent.change(Self.bounds(5, keepsBodies: false))
        #expect(recent.entries.isEmpty && recent.byteCount == 0)
    }

    @Test("Gaps and lower sequences do no harm, and the list is in the order of the sequences")
    func gaps() throws {
        let recent = Self.recent(Self.bounds(4))
        for sequence: UInt64 in [10, 13, 11, .max] { recent.add(try Self.profiles(1, from: sequence), to: ["a"]) }
        #expect(recent.entries.map(\.sequence) == [.max, 13, 11, 10])
        recent.add(try Self.profiles(1, from: 5), to: ["a"])
        #expect(recent.entries.map(\.sequence) == [.max, 13, 11, 5], "the one that came first goes first")
        #expect(recent[10] == nil && recent[11] != nil)
    }

    @Test("Up to a thousand profiles a second are kept, and a part of more")
    func rate() throws {
        let recent = Self.recent(Self.bounds(10_000))
        let start = MonotonicTime.now
        var all: [ReceivedProfile] = []
        /// Adds profiles at one time, and returns how many of them are kept.
        func kept(of count: Int, after time: Duration) throws -> Int {
            let profiles = try Self.profiles(count, from: UInt64(recent.changes + 1) << 20)
            recent.add(profiles, to: ["a"], start + time)
            all += profiles
            return profiles.count { !$0.isLeftOutOfRecent }
        }
        #expect(try kept(of: 999, after: .zero) == 999)
        #expect(try kept(of: 3, after: .zero) == 1)
        #expect(try kept(of: 1, after: .microseconds(999)) == 0)
        #expect(try kept(of: 2, after: .milliseconds(1)) == 1)
        var count = 0
        for step in 0..<1000 { count += try kept(of: 7, after: .milliseconds(2 + step)) }
        #expect(count == 1000)
        #expect(try kept(of: 2000, after: .seconds(60)) == 1000)
        #expect(recent.entries.map(\.sequence) == all.filter { !$0.isLeftOutOfRecent }.map(\.sequence).reversed())
    }

    @Test("Outcomes are noted for the receiver that has them, and long texts are cut")
    func fates() throws {
        let recent = Self.recent(Self.bounds(2))
        recent.add(try Self.profiles(2), to: ["a", "b"])
        recent.note(1000, "b", .delivered)
        recent.note(1000, "other", .delivered)
        recent.note(7, "a", .delivered)
        recent.note(1001, "a", .dropped(.rejected, why: String(repeating: "é", count: 1000)))
        #expect(recent[1000]?.fates.map(\.fate) == [.queued, .delivered])
        guard case .dropped(.rejected, let why)? = recent[1001]?.fates.first?.fate else {
            Issue.record("no outcome")
            return
        }
        #expect(why.utf8.count <= 260 && why.hasSuffix("…"))
        let changes = recent.changes
        recent.note(1001, "b", .delivered)
        #expect(recent.changes == changes + 1)
    }
}
