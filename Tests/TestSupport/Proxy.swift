import Foundation

/// Debian's tinyproxy as a forward proxy.
struct Proxy {
    let port: UInt16
    var address: String { "127.0.0.1:\(port)" }
    private let process: ChildProcess

    /// - Parameter credentials: the required user and password, separated by a space.
    init(_ scenario: Scenario, credentials: String? = nil) throws {
        port = try scenario.port()
        let file = try scenario.write(
            """
            Port \(port)
            Listen 127.0.0.1
            Allow 127.0.0.1
            MaxClients 200
            LogLevel Info
            \(credentials.map { "BasicAuth \($0)" } ?? "")

            """, to: "tinyproxy-\(port).conf")
        process = try scenario.start(["tinyproxy", "-d", "-c", file])
        try process.output.wait(for: "Accepting connections")
    }

    /// The requests so far, as `CONNECT localhost:443` or `POST http://…`.
    var requests: [String] {
        get throws {
            // The line of a later request comes after those of all answered ones.
            let mark = "/sync/\(UUID().uuidString)"
            let connection = try RawConnection(port)
            defer { connection.close() }
            connection.send("GET \(mark) HTTP/1.0\r\n\r\n")
            try process.output.wait(for: mark)
            return process.output.lines.compactMap { line in
                guard let start = line.range(of: "Request (file descriptor "), let colon = line[start.upperBound...].range(of: ": ")
                else { return nil }
                let words = line[colon.upperBound...].split(separator: " ")
                return words.count < 2 || words[1].hasPrefix("/sync/") ? nil : "\(words[0]) \(words[1])"
            }
        }
    }
}
