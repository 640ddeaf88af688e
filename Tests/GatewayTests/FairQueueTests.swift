import Testing

@testable import Gateway

@Suite("Lanes that take turns")
struct FairQueueTests {
    @Test(
        "A full lane makes nobody wait in another one, and gives up its oldest",
        arguments: [FairQueue<Int>.Order.oldestFirst, .newestFirst])
    func lanes(order: FairQueue<Int>.Order) {
        var queue = FairQueue<Int>(order: order, maximumPerLane: 3)
        func append(_ job: Int, _ lane: String) -> Int? { queue.append(job, lane: lane) }
        #expect((0..<3).map { append($0, "a") } == [nil, nil, nil])
        #expect(append(3, "a") == 0)
        #expect(append(10, "b") == nil)
        let isOldest = order == .oldestFirst
        #expect((0..<3).map { _ in queue.next() } == (isOldest ? [1, 10, 2] : [3, 10, 2]))
        #expect(append(11, "b") == nil)
        #expect((0..<3).map { _ in queue.next() } == (isOldest ? [3, 11, nil] : [1, 11, nil]))
    }

    @Test("What was removed does not come")
    func removeAll() {
        var queue = FairQueue<Int>(order: .oldestFirst)
        for lane in ["a", "b"] { #expect(queue.append(1, lane: lane) == nil) }
        queue.removeAll()
        #expect(queue.next() == nil)
        #expect(queue.append(2, lane: "a") == nil)
        #expect(queue.next() == 2)
    }
}
