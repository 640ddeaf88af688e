import Testing

@testable import Gateway

@Suite("Command lines")
struct CommandTests {
    private static func read(_ words: String...) throws -> Arguments {
        try Arguments(words, options: ["--config", "--to"], flags: ["--json"])
    }

    @Test("An option takes the next word or the text after the equals sign, and the other words keep their order")
    func options() throws {
        let arguments = try Self.read("a", "--config", "x", "--to=y=z", "b", "--json", "-", "--to=")
        #expect((arguments.words, arguments.value("--config"), arguments.has("--json")) == (["a", "b", "-"], "x", true))
        #expect(arguments.values("--to") == ["y=z", ""])
        #expect(arguments.value("--to") == "")
    }

    @Test("Everything after two dashes is a word")
    func dashes() throws {
        #expect(try Self.read("--json", "--", "--config", "--what", "--").words == ["--config", "--what", "--"])
    }

    @Test(
        "The error of a wrong command line names the word",
        arguments: [
            (["--what"], #"unknown option "--what""#), (["--config"], "--config needs a value"), (["a", "--to"], "--to needs a value"),
            (["--json=1"], #"unknown option "--json=1""#), (["--con\u{1b}"], #"unknown option "--con\u001b""#),
        ])
    func wrong(words: [String], message: String) throws {
        let error = try #require(throws: UsageError.self) { try Arguments(words, options: ["--config", "--to"], flags: ["--json"]) }
        #expect(error.message == message)
    }

    @Test("Words are refused where none are expected")
    func words() throws {
        try Self.read("--json").refuseWords()
        #expect(throws: UsageError.self) { try Self.read("x").refuseWords() }
    }
}
