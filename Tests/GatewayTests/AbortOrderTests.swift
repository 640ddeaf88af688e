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
}
