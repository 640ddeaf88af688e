import ConfigJSON
import Glibc
import HTTPServer
import LinuxSystem
import PushWire
import Telemetry

/// `gateway reload`: makes a running gateway read its config again, through its admin listener.
enum ReloadCommand {
    static func run(_ words: [String]) throws(UsageError) -> Int32 {
        let arguments = try Arguments(words, options: Arguments.headerOptions.union(["--config"]))
        try arguments.refuseWords()
        let (path, headers) = (arguments.value("--config") ?? CheckCommand.defaultConfig, try arguments.headers())
        do {
            guard let admin = try admin(of: path) else { return fail("\(path): admin is off") }
            guard admin.port != 0 else { return fail("\(path): admin.listen_port is 0, so the port is not known here") }
            return try reload(admin, headers)
        } catch { return fail("\(error)") }
    }

    private static func fail(_ why: String) -> Int32 {
        printError("gateway: \(why); send the process a SIGHUP instead, and see its log")
        return 1
    }

    /// The admin listener's address in the config file; other mistakes in the file are ignored here, because the gateway reports
    /// them.
    private static func admin(of path: String) throws -> HTTPConfig? {
        _ = try FileDescriptor.open(path, O_RDONLY)
        let file = ConfigFile.read(path)
        // The address may depend on environment variables that only the gateway has.
        if let unknown = file.unresolved.first(where: { $0.path.hasPrefix("admin.") }) { throw unknown }
        return file.config.admin?.http
    }

    private static func reload(_ admin: HTTPConfig, _ headers: [(name: String, value: String)]) throws -> Int32 {
        let client = try HTTPClient()
        // The admin listener is on this machine, so no proxy is used.
        client.goDirectly()
        if let tls = admin.tls { client.trustOnly(try tls.certificate.read()) }
        let url = "\(admin.tls == nil ? "http" : "https")://\(host(admin.address)):\(admin.port)\(ReloadRequests.path)"
        let answer = try client.post(url, headers: headers, body: RawSpan())
        let (lines, isReloaded) = told(answer, KnownSecrets(of: headers))
        for line in lines { print(line) }
        return isReloaded ? 0 : 1
    }

    /// The host to connect to for a listening address.
    private static func host(_ address: String) -> String {
        if ["", "0.0.0.0", "::", "[::]"].contains(address) { return "localhost" }
        return address.contains(":") && !address.hasPrefix("[") ? "[\(address)]" : address
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
