import Foundation

extension GatewayProcess {
    static let pushPath = "/push.v1.PusherService/Push"

    /// Starts a gateway that answers senders when every required receiver has settled.
    convenience init(_ scenario: Scenario, delivering receivers: [String: String], http: String = "") throws {
        try self.init(scenario, Self.config(delivering: receivers, http: http))
    }

    /// The config of a gateway that answers senders when every required receiver has settled.
    static func config(delivering receivers: [String: String], http: String = "", more: String = "") -> String {
        config(listeners: listener(receivers.keys.sorted(), http: http, more: "\"ack\": \"delivered\", \(more)"), receivers: receivers)
    }

    /// Sends one Push in JSON on its own connection.
    func push(_ series: PushSeries..., headers: String = "") throws -> RawConnection.Response {
        let connection = try RawConnection(port)
        defer { connection.close() }
        return try connection.push(series, headers: headers)
    }

    /// The peak of the process's resident memory, in bytes.
    func peakMemory() throws -> Int {
        let status = try String(contentsOfFile: "/proc/\(process.id)/status", encoding: .utf8)
        let line = status.split(separator: "\n").first { $0.hasPrefix("VmHWM:") }
        guard let kibibytes = line?.split(whereSeparator: { !$0.isNumber }).first.flatMap({ Int($0) }) else {
            throw NeverCame(what: "VmHWM", seen: [status])
        }
        return kibibytes * 1024
    }
}

extension RawConnection {
    /// Sends one Push in JSON.
    func push(_ series: [PushSeries], headers: String = "") throws -> Response {
        try post(GatewayProcess.pushPath, try PushSeries.json(series), headers: "Content-Type: application/json\r\n\(headers)")
    }

    func post(_ target: String, bytes: [UInt8], headers: String) throws -> Response {
        send("POST \(target) HTTP/1.1\r\nHost: gateway\r\nContent-Length: \(bytes.count)\r\n\(headers)\r\n")
        send(bytes)
        return try readResponse()
    }
}

extension RawConnection.Response {
    private struct Failure: Decodable {
        let code: String
        let message: String
    }

    private var failure: Failure? { try? JSONDecoder().decode(Failure.self, from: Data(body)) }
    /// The Connect code of an error.
    var code: String? { failure?.code }
    var message: String { failure?.message ?? "" }
}

extension Recorder.Request {
    /// The series of a short Push.
    var series: [PushSeries] {
        get throws { try PushSeries.decode(Data((text ?? "").unicodeScalars.map { UInt8(truncatingIfNeeded: $0.value) })) }
    }
}

extension Recorder {
    /// Waits until these samples have come in short Pushes, and returns how often each sample came.
    func wait(forSamples wanted: Set<String>) throws -> [String: Int] {
        func samples(_ requests: [Request]) throws -> [String: Int] {
            try requests.flatMap { try $0.series }.flatMap(\.texts).reduce(into: [:]) { $0[$1, default: 0] += 1 }
        }
        let requests = try wait(for: "\(wanted.count) samples") { requests in
            // The samples are decoded only when there are enough requests, because that takes time.
            requests.count >= wanted.count && (try? samples(requests))?.keys.count { wanted.contains($0) } == wanted.count
        }
        return try samples(requests)
    }
}

extension Project {
    /// The Python with the packages of `Tests/requirements.txt`.
    static func python() throws -> String { try madeByTest(".build/venv/bin/python") }
    static func promtool() throws -> String { try madeByTest(".build/tools/promtool") }

    /// The path of a tool that `make test` installs.
    private static func madeByTest(_ path: String) throws -> String {
        guard FileManager.default.isExecutableFile(atPath: "\(root)/\(path)") else {
            throw NeverCame(what: "\(path): run make test", seen: [])
        }
        return "\(root)/\(path)"
    }
}
