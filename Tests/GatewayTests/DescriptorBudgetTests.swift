import LinuxSystem
import Testing

@testable import Gateway
@testable import HTTPServer
@testable import PluginHost

@Suite("The division of file descriptors")
struct DescriptorBudgetTests {
    typealias Demand = DescriptorBudget.Demand

    private static let usual = Demand(
        loops: 2, sockets: 2, receivers: 3, hasDataDirectory: true, connections: 16384, deliveries: 192)
    private static let demands = [
        Demand(), usual, Demand(loops: 8, sockets: 12, receivers: 24, hasDataDirectory: true, connections: .max, deliveries: 1536),
        Demand(loops: 1, sockets: 1, receivers: 1, connections: 1, deliveries: 1),
        Demand(loops: 4, sockets: 3, receivers: 2, hasDataDirectory: true, connections: 961, deliveries: 128),
        Demand(loops: 4, sockets: 3, receivers: 2, hasDataDirectory: true, connections: 100_000, deliveries: 128),
        Demand(loops: 1, sockets: 1, receivers: 2, hasDataDirectory: true, connections: 100, deliveries: .max),
    ]

    @Test("The shares together exceed the limit only when the budget says so")
    func sums() {
        for demand in Self.demands {
            for limit in [0, 1, 16, 63, 64, 100, 256, 300, 500, 1024, 4096, 20_000, 1 << 20, 1 << 30] {
                let budget = DescriptorBudget(limit: limit, demand)
                let sum = budget.reserve + budget.admin + budget.listeners + budget.receivers
                #expect(budget.isOvercommitted == (sum > limit), "\(limit)")
                #expect(budget.isOvercommitted == budget.shortcomings(demand).contains { $0.text.contains("itself needs") })
                #expect(budget.admin >= 4 && budget.listeners >= 8 && budget.receivers >= max(1, demand.receivers))
                #expect(budget.refusals >= 1 && budget.heldConnections >= 1)
            }
        }
    }

    @Test("All descriptors are divided, and a use that needs few leaves the rest to the others")
    func nothingIdle() {
        for limit in [256, 1024, 5000] {
            let budget = DescriptorBudget(limit: limit, Self.usual)
            #expect(budget.reserve + budget.admin + budget.listeners + budget.receivers == limit)
        }
        let few = DescriptorBudget(limit: 1024, Demand(receivers: 1, connections: 10, deliveries: 64))
        #expect(few.listeners == 74, "ten connections, and those that are told to come again")
        let idle = DescriptorBudget(limit: 1024, Demand(receivers: 1, connections: 16384, deliveries: 1))
        #expect(idle.receivers == 12)
    }

    @Test("The usual limit of 1024 is divided, and a demand beyond it is reported with its numbers")
    func small() {
        let budget = DescriptorBudget(limit: 1024, Self.usual)
        #expect(budget.reserve == 96)
        #expect(budget.admin == 32)
        #expect(budget.receivers == 448)
        #expect(budget.listeners == 448)
        #expect(budget.heldConnections == 420)
        #expect(budget.deadLetterFiles == 32)
        #expect(
            budget.shortcomings(Self.usual) == [
                DescriptorBudget.Shortcoming(text: "conn_limit cannot be held: too few descriptors", asked: 16384, possible: 420)
            ])
    }

    @Test("conn_limit is reported as too large from the first connection that cannot be held", arguments: [420, 421])
    func boundary(connections: Int) {
        var demand = Self.usual
        demand.connections = connections
        let found = DescriptorBudget(limit: 1024, demand).shortcomings(demand)
        #expect(found.map(\.asked) == (connections > 420 ? [421] : []))
        demand.connections = .max
        #expect(DescriptorBudget(limit: 1024, demand).shortcomings(demand) == [], "without a limit nothing is promised")
    }

    @Test("A max_in_flight of many receivers beyond their share is reported")
    func deliveries() {
        var demand = Demand(loops: 1, sockets: 2, receivers: 24, connections: 8, deliveries: 24 * 64)
        let budget = DescriptorBudget(limit: 1024, demand)
        #expect(budget.shortcomings(demand).map(\.asked) == [1536])
        demand.deliveries = budget.receivers
        #expect(DescriptorBudget(limit: 1024, demand).shortcomings(demand) == [])
    }

    @Test("The limit that is reported as enough holds all that the config allows")
    func enough() {
        for demand in Self.demands where demand.connections != .max && demand.deliveries != .max {
            for limit in [64, 1024, 4096, 100_000] {
                let enough = DescriptorBudget(limit: DescriptorBudget(limit: limit, demand).enough, demand)
                #expect(enough.shortcomings(demand) == [])
                #expect(enough.heldConnections >= demand.connections && enough.receivers >= demand.deliveries)
            }
        }
    }

    // MARK: Use

    @Test("Each plugin instance has an equal part and at least one descriptor, and returns its part when it ends")
    func instances() {
        let plugins = PluginDescriptors(limit: 0)
        let descriptors = Descriptors(limit: 1024, plugins: plugins)
        descriptors.divide(Self.usual, limit: 1024)
        let whole = descriptors.budget.receivers
        #expect(plugins.instanceShare == whole, "who would be the only one")
        for count in 1...3 {
            plugins.instanceBegan()
            #expect(plugins.instanceShare == whole / count)
        }
        for _ in 0..<1000 { plugins.instanceBegan() }
        #expect(plugins.instanceShare == 1)
        for _ in 0..<1001 { plugins.instanceEnded() }
        #expect(plugins.instanceShare == whole / 2)
        descriptors.divide(Self.usual, limit: 4096)
        #expect(plugins.instanceShare == descriptors.budget.receivers / 2)
    }

    @Test("A share has separate room for connections that are served and for those that are answered 503")
    func share() {
        let share = ConnectionShare()
        share.change(limit: 10, refusals: 2)
        #expect(share.room == 8)
        #expect((1...10).map { _ in share.reserve(.served) } == (1...10).map { $0 <= 8 })
        #expect((1...4).map { _ in share.reserve(.refused) } == (1...4).map { $0 <= 2 })
        #expect(share.count == 10)
        share.release(.served)
        #expect(!share.reserve(.refused) && share.reserve(.served) && !share.reserve(.served))
        share.change(limit: 4, refusals: 1)
        for _ in 1...6 { share.release(.served) }
        #expect(share.reserve(.served) && !share.reserve(.served), "a smaller share holds from then on")
    }

    @Test("The oldest idle connection of all loops makes room, or the oldest silent one when most are silent")
    func oldest() {
        let board = IdleBoard()
        #expect(board.oldestLoop(IdleKind.allCases) == nil)
        board.publish(MonotonicTime(nanoseconds: 20), .kept, of: 3)
        board.publish(MonotonicTime(nanoseconds: 30), .silent, of: 1)
        board.publish(MonotonicTime(nanoseconds: 40), .silent, of: 8)
        #expect(board.oldestLoop(IdleKind.allCases) == 3)
        #expect(board.oldestLoop([.silent]) == 1)
        board.publish(.never, .silent, of: 1)
        #expect(board.oldestLoop([.silent]) == 8)
        var kinds: [[IdleKind]] = []
        for _ in 1...6 {
            board.countSilent(1)
            kinds.append(board.kindsToClose(10))
        }
        #expect(kinds == Array(repeating: IdleKind.allCases, count: 5) + [[.silent]])
    }
}
