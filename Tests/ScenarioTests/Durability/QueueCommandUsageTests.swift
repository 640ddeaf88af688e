import Testing

@testable import TestSupport

@Suite("Wrong usage of gateway queue")
struct QueueCommandUsageTests {
    @Test(
        "Wrong usage exits with 2 and is explained",
        arguments: [
            [], ["lost"], ["list", "x"], ["verify", "--what"], ["show", "x"], ["show", "1", "2"], ["show", "--limit", "-1"],
            ["show", "--output", "f"], ["show", "1", "--limit", "3"], ["drop", "--all", "--yes"], ["drop", "--receiver", "up", "--yes"],
            ["drop", "--receiver", "up", "--all", "1", "--yes"], ["drop", "--receiver", "up", "--older-than", "soon", "--yes"],
            ["drop", "--receiver", "up", "0", "--yes"], ["list", "--config", "a", "--data-dir", "b"],
        ])
    func usage(words: [String]) throws {
        try Scenario.run { scenario in
            let process = try scenario.start([try Project.builtGateway(), "queue"] + words)
            #expect(try process.waitForExit() == 2)
            #expect(process.errors.lines.first?.hasPrefix("gateway: ") == true && process.output.lines.isEmpty)
        }
    }

    @Test("A missing config, data_dir or folder exits with 1")
    func nothingThere() throws {
        try Scenario.run { scenario in
            #expect(try scenario.queue("list").status == 1)
            let archive =
                "\"receivers\": { \"a\": { \(ReceiverEntry.archive()) } }, \"receive_http\": { \"d\": { \"forward_to\": [\"a\"] } }"
            try scenario.write("{ \(archive) }", to: "gateway.json")
            let answer = try scenario.queue("list")
            #expect(answer.status == 1 && answer.errors.first?.contains("data_dir") == true)
            #expect(try scenario.queue("verify", "--data-dir", "nowhere", config: false).status == 1)
            try scenario.write("{ \"data_dir\": \"data\", \(archive) }", to: "gateway.json")
            #expect(try scenario.queues().map(\.profiles) == [0])
            #expect(try scenario.queue("verify").status == 0)
        }
    }
}
