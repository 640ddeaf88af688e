import Testing

@testable import Receivers
@testable import SpoolStore

@Suite("Eviction from the spool")
struct SpoolEvictionTests {
    /// A receiver reads 512 waiting profiles at a time.
    @Test("All waiting profiles of a segment are dropped for a new one, however many are only on disk", arguments: [511, 512, 513, 1300])
    func backlog(count: Int) throws {
        let config = SpoolConfig(minFreeBytes: 0, segmentBytes: 8 << 20)
        let spool = try SpoolFixture(SpoolFixture.receiver("up"), spool: config)
        try spool.submit(count, body: 10)
        var full = config
        full.maxBytes = try #require(spool.spool).size.bytes
        try spool.restart(spool: full)
        #expect(spool.queued() == count)
        #expect(try spool.submit(body: 10) == [.accepted])
        #expect(spool.account().dropped == [.spoolFull: count])
        #expect(try spool.deliverAll().count == 1)
        #expect(spool.isBalanced())
    }
}
