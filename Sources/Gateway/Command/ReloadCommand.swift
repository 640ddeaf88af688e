import ConfigJSON
import HTTPServer
import PushWire
import Telemetry

/// `gateway reload`: makes a running gateway read its config again, through its admin listener.
enum ReloadCommand {
    static func run(_ words: [String]) throws(UsageError) -> Int32 {
        let arguments = try Arguments(words, options: Arguments.headerOptions.union(["--config"]))
        try arguments.refuseWords()
        let (path, headers) = (arguments.value("--config") ?? CheckCommand.defaultConfig, try arguments.headers())
        do { return try reload(try AdminServer(of: path), headers) } catch {
            printError("gateway: \(error); send the process a SIGHUP instead, and see its log")
            return 1
        }
    }

    private static func reload(_ admin: AdminServer, _ headers: [(name: String, value: String)]) throws -> Int32 {
        let answer = try admin.client().post(admin.url(ReloadRequests.path), headers: headers, body: RawSpan())
        let (lines, isReloaded) = told(answer, KnownSecrets(of: headers))
        for line in lines { print(line) }
        return isReloaded ? 0 : 1
    }

    /// The lines to print, which are the problems if there are any, and whether the gateway has reloaded.
    private static func told(_ answer: HTTPClient.Answer, _ secrets: KnownSecrets) -> (lines: [String], isReloaded: Bool) {
        let said = "\(answer.status) \(Response.reason(answer.status))"
        if let excess = answer.excess { return (["\(said), but the answer has \(excess)"], false) }
        let problems = Problems()
        let value = JSONParser.parse(answer.media.body, dialect: .strict, problems: problems)
        let list = value.flatMap { ConfigObject($0, path: "", problems: problems).strings("problems") } ?? []
        if answer.status != 200, !list.isEmpty { return (list.map { printable(secrets.cut(from: $0)) }, false) }
        guard answer.status == 200 else { return ([said + answer.words(secrets)], false) }
        if answer.media.body == ReloadRequests.done { return (["reloaded"], true) }
        return (["\(said), but nothing that a gateway answers to a reload:\(answer.words(secrets))"], false)
    }
}
