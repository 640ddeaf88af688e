import Testing

@testable import HTTPServer

@Suite("A queue of lanes that take turns")
struct FairQueueTests {
    @Test(
        "A full lane gives up its oldest job, and does not delay another lane",
        arguments: [FairQueue<Int>.Order.oldestFirst, .newestFirst])
    func lanes(order: FairQueue<Int>.Order) {
        var queue = FairQueue<Int>(order: order, maximumPerLane: 3)
        func append(_ job: Int, _ lane: String) -> Int? { queue.append(job, lanes: [lane]) }
        #expect((0..<3).map { append($0, "a") } == [nil, nil, nil])
        #expect(append(3, "a") == 0)
        #expect(append(10, "b") == nil)
        let isOldest = order == .oldestFirst
        #expect((0..<3).map { _ in queue.next() } == (isOldest ? [1, 10, 2] : [3, 10, 2]))
        #expect(append(11, "b") == nil)
        #expect((0..<3).map { _ in queue.next() } == (isOldest ? [3, 11, nil] : [1, 11, nil]))
    }

    @Test("Inner lanes take turns too, so an outer lane with many of them does not delay another outer lane")
    func nested() {
        var queue = FairQueue<String>(order: .oldestFirst)
        func append(_ job: String, _ lanes: String...) { _ = queue.append(job, lanes: lanes) }
        for inner in 0..<5 { append("a\(inner)", "a", "\(inner)") }
        for job in ["b0", "b1", "b2"] { append(job, "b", "0") }
        append("a0 again", "a", "0")
        #expect((0..<10).map { _ in queue.next() } == ["a0", "b0", "a1", "b1", "a2", "b2", "a3", "a4", "a0 again", nil])
        append("b3", "b", "0")
        #expect(queue.next() == "b3")
    }

    @Test("Removed jobs are not returned")
    func removeAll() {
        var queue = FairQueue<Int>(order: .oldestFirst)
        for lane in ["a", "b"] { #expect(queue.append(1, lanes: [lane]) == nil) }
        queue.removeAll()
        #expect(queue.next() == nil)
        #expect(queue.append(2, lanes: ["a"]) == nil)
        #expect(queue.next() == 2)
    }
}
