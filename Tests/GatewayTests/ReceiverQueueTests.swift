import LinuxSystem
import Testing

@testable import Profiles
@testable import Receivers
@testable import TestSupport

@Suite("A receiver's queue")
final class ReceiverQueueTests {
    private var queue = ReceiverQueue()
    private var numbers: [UInt64: Int] = [:]

    /// Adds profiles, which the tests number from 0.
    private func fill(_ count: Int) throws {
        for _ in 0..<count {
            let profile = try ReceivedProfile.sample(body: 10)
            numbers[profile.sequence] = numbers.count
            queue.append(profile, now: .at(1))
        }
    }

    /// The number of an entry's profile.
    private func number(_ handle: ReceiverQueue.Handle?) -> Int? { handle.flatMap { numbers[queue[$0].sequence] } }

    private func openNext() throws -> ReceiverQueue.Handle {
        let handle = queue.open()
        return try #require(handle)
    }

    /// Opens everything that is ready, and returns the numbers in order.
    private func openAll() -> [Int?] {
        var opened: [Int?] = []
        while let handle = queue.open() { opened.append(number(handle)) }
        return opened
    }

    @Test("Profiles open in order, and one that is put back opens last")
    func order() throws {
        try fill(3)
        let first = try openNext()
        #expect(number(first) == 0)
        queue.putBack(first)
        #expect(openAll() == [1, 2, 0])
        #expect(!queue.hasReady)
        #expect(openAll().isEmpty)
    }

    @Test("A delayed profile waits until it is due, and then opens before the rest")
    func delay() throws {
        try fill(3)
        queue.delay(try openNext(), until: .at(10))
        #expect(queue.nextDue == .at(10))
        queue.wake(now: MonotonicTime(nanoseconds: 9_999_999_999))
        let second = try openNext()
        #expect(number(second) == 1)
        queue.putBack(second)
        queue.wake(now: .at(10))
        #expect(queue.nextDue == .never)
        #expect(openAll() == [0, 2, 1])
    }

    @Test("Waking with the time never makes all delayed profiles ready")
    func wakeAll() throws {
        try fill(3)
        for seconds: Int64 in [30, 10, 20] { queue.delay(try openNext(), until: .at(seconds)) }
        #expect(queue.nextDue == .at(10))
        queue.wake(now: .never)
        #expect(openAll() == [0, 1, 2])
    }

    @Test("The oldest waiting profile is ready or delayed, never open")
    func eviction() throws {
        try fill(3)
        let first = try openNext()
        #expect(number(queue.oldestWaiting) == 1)
        queue.delay(try openNext(), until: .at(10))
        #expect(number(queue.oldestWaiting) == 1)
        queue.remove(try #require(queue.oldestWaiting))
        #expect(number(queue.oldestWaiting) == 2)
        queue.putBack(first)
        #expect(number(queue.oldestWaiting) == 0)
    }

    @Test("The due time of an evicted profile does not wake the profile in its place")
    func staleDelay() throws {
        try fill(2)
        let first = try openNext()
        queue.delay(first, until: .at(10))
        queue.remove(first)
        try fill(1)
        #expect(openAll() == [1, 2])
        queue.wake(now: .at(10))
        #expect(!queue.hasReady)
        #expect(queue.count == 2)
    }

    @Test("The count and the bytes include all profiles, also open ones, and end at zero")
    func totals() throws {
        let cost = try ReceivedProfile.emptyCost + 10
        try fill(3)
        #expect((queue.count, queue.byteCount) == (3, 3 * cost))
        let first = try openNext()
        #expect((queue.count, queue.byteCount) == (3, 3 * cost))
        queue.remove(first)
        #expect((queue.count, queue.byteCount) == (2, 2 * cost))
        while let oldest = queue.oldestWaiting { queue.remove(oldest) }
        #expect((queue.count, queue.byteCount) == (0, 0))
        #expect(queue.oldestWaiting == nil)
    }

    @Test("An entry keeps its attempts and progress while it waits")
    func entry() throws {
        try fill(2)
        let first = try openNext()
        queue[first].attempts = 3
        queue[first].progress = 7
        queue.delay(first, until: .at(2))
        queue.wake(now: .at(2))
        let again = try openNext()
        #expect((queue[again].attempts, queue[again].progress, queue[again].acceptedAt) == (3, 7, .at(1)))
    }

    // MARK: Model

    /// A model of the queue that consists of plain arrays of sequences.
    private struct Model {
        var age: [UInt64] = []
        var ready: [UInt64] = []
        var delayed: [(due: MonotonicTime, sequence: UInt64)] = []
        var open: [UInt64: ReceiverQueue.Handle] = [:]

        var oldestWaiting: UInt64? { age.first { open[$0] == nil } }

        mutating func remove(_ sequence: UInt64) {
            age.removeAll { $0 == sequence }
            ready.removeAll { $0 == sequence }
            delayed.removeAll { $0.sequence == sequence }
            open[sequence] = nil
        }

        mutating func wake(_ now: MonotonicTime) {
            ready.insert(contentsOf: delayed.filter { $0.due <= now }.map(\.sequence).sorted(), at: 0)
            delayed.removeAll { $0.due <= now }
        }
    }

    @Test("The queue equals a model of plain arrays after each of thousands of random steps")
    func model() throws {
        var random = SeededRandom()
        var model = Model()
        var now = MonotonicTime.at(1)
        let cost = try ReceivedProfile.emptyCost
        for step in 0..<6000 {
            // The step number is part of each due time, so no two profiles are due together.
            now.nanoseconds += 1000
            let open = model.open.min { $0.key < $1.key }
            switch random.below(step % 1000 < 600 ? 12 : 9) {
            case 0, 1:
                if let handle = queue.open() {
                    let sequence = queue[handle].sequence
                    #expect(sequence == model.ready.removeFirst())
                    model.open[sequence] = handle
                }
            case 2:
                guard let (sequence, handle) = open else { continue }
                queue.putBack(handle)
                model.open[sequence] = nil
                model.ready.append(sequence)
            case 3, 4:
                guard let (sequence, handle) = open else { continue }
                let due = MonotonicTime(nanoseconds: now.nanoseconds + Int64(random.below(50)) * 1000 + Int64(step % 1000))
                queue.delay(handle, until: due)
                model.open[sequence] = nil
                model.delayed.append((due, sequence))
            case 5:
                let time = random.below(20) == 0 ? .never : now
                queue.wake(now: time)
                model.wake(time)
            case 6, 7:
                #expect(queue.oldestWaiting.map { queue[$0].sequence } == model.oldestWaiting)
                guard let oldest = queue.oldestWaiting, let sequence = model.oldestWaiting else { continue }
                queue.remove(oldest)
                model.remove(sequence)
            case 8:
                guard let (sequence, handle) = open else { continue }
                queue.remove(handle)
                model.remove(sequence)
            default:
                let profile = try ReceivedProfile.sample()
                queue.append(profile, now: now)
                model.age.append(profile.sequence)
                model.ready.append(profile.sequence)
            }
            try #require((queue.count, queue.byteCount) == (model.age.count, model.age.count * cost), "step \(step)")
            try #require(queue.hasReady == !model.ready.isEmpty, "step \(step)")
            // The due time of an evicted profile may remain, so the queue's time may be earlier.
            try #require(queue.nextDue <= model.delayed.map(\.due).min() ?? .never, "step \(step)")
        }
    }
}
