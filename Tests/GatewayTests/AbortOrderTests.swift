import LinuxSystem
import Synchronization
import Testing

@testable import PluginHost

@Suite("The order of operations and abort")
struct AbortOrderTests {
    @Test("Without an abort, every operation is given")
    func none() {
        let order = AbortOrder()
        var calls: [String] = []
        for _ in 0..<2 { #expect(order.give({ calls.append("give") }, abort: { calls.append("abort again") })) }
        #expect(calls == ["give", "give"])
    }

    @Test("After an abort nothing is given")
    func after() {
        let order = AbortOrder()
        var calls: [String] = []
        #expect(order.give({ calls.append("give") }, abort: {}))
        order.abort { calls.append("abort") }
        for _ in 0..<2 { #expect(!order.give({ calls.append("give") }, abort: { calls.append("abort again") })) }
        #expect(calls == ["give", "abort"])
    }

    @Test("An abort while an operation is given is called at once, and again after that")
    func during() {
        let order = AbortOrder()
        var calls: [String] = []
        #expect(
            order.give(
                {
                    order.abort { calls.append("abort") }
                    calls.append("give")
                }, abort: { calls.append("abort again") }))
        #expect(calls == ["abort", "give", "abort again"])
        #expect(!order.give({ calls.append("give") }, abort: { calls.append("abort again") }))
        #expect(calls.count == 3)
    }

    @Test("While a call of abort has not returned, the other threads go on, and it is called again after that")
    func hung() {
        let order = AbortOrder()
        let calls = Mutex<[String]>([])
        let (isBegun, isReleased, isEnded) = (Monitor(false), Monitor(false), Monitor(false))
        let abort: @Sendable () -> Void = {
            order.abort {
                let isFirst = calls.withLock { calls in
                    calls.append("abort")
                    return calls.count == 1
                }
                guard isFirst else { return }
                isBegun.withLock { $0 = true }
                isBegun.signal()
                isReleased.wait(until: .now + .seconds(60)) { $0 }
            }
            isEnded.withLock { $0 = true }
            isEnded.signal()
        }
        let give = {
            try? Thread.detached("abort", abort)
            isBegun.wait(until: .now + .seconds(60)) { $0 }
        }
        #expect(order.give({ give() }, abort: { calls.withLock { $0.append("abort on this thread") } }))
        // Several of them are one.
        for _ in 0..<2 { order.abort { calls.withLock { $0.append("abort on this thread") } } }
        #expect(calls.withLock { $0 } == ["abort"])
        isReleased.withLock { $0 = true }
        isReleased.signal()
        #expect(isEnded.wait(until: .now + .seconds(60)) { $0 })
        #expect(calls.withLock { $0 } == ["abort", "abort"])
        order.abort { calls.withLock { $0.append("abort later") } }
        #expect(calls.withLock { $0 } == ["abort", "abort", "abort later"])
    }
}
