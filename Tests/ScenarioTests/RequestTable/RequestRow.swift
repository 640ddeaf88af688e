@testable import TestSupport

/// One request of the table, given byte by byte, with its expected answers.
struct RequestRow: Sendable {
    /// A unique description of the request.
    let what: String
    let request: [UInt8]
    /// All statuses in order, and whether the connection stays open: `200 keeps`, `400 closes`, `200 400 closes`.
    let answer: String
    /// The statuses of a sender behind nginx, if they differ.
    let nginx: String?
    /// The reason for that difference.
    let reason: String

    var isHead: Bool { request.starts(with: "HEAD ".utf8) }
    var statuses: String { answer.split(separator: " ").dropLast().joined(separator: " ") }

    /// - Parameter request: a text in which each character stands for one byte.
    init(_ what: String, _ request: String, _ answer: String, nginx: String? = nil, _ reason: String = "") {
        self.what = what
        self.request = request.unicodeScalars.map { UInt8($0.value) }
        self.answer = answer
        self.nginx = nginx
        self.reason = reason
    }

    static let all =
        lengths + codings + chunkSizes + chunkLines + trailers + lineEnds + fields + hosts + targets + versions + limits + expectations
        + routes + names + connections + strangers

    /// A valid request sent after each row, whose unique answer shows whether the connection stays open.
    static let next: [UInt8] = {
        let body = "{\"series\":[{\"samples\":[{\"rawProfile\":\"YQ==\"}]}]}"
        let head = "POST /push.v1.PusherService/Push HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nConnection: close\r\n"
        return Array("\(head)Content-Length: \(body.utf8.count)\r\n\r\n\(body)".utf8)
    }()
    static let nextAnswer = "{}"

    /// The `max_body_size` that the table assumes.
    static let maximumBody = 1000
}

/// Parts that the rows consist of.
extension RequestRow {
    static let line = "POST /ingest?name=a HTTP/1.1\r\n"
    static let profile = "a 1"
    /// A complete request with another profile.
    static let another = line + "Host: a\r\nContent-Length: 3\r\n\r\nb 2"

    static func times(_ count: Int, _ text: String) -> String { String(repeating: text, count: count) }

    /// A head of these lines, followed by `rest`.
    static func raw(_ lines: String..., then rest: String = "") -> String { lines.joined(separator: "\r\n") + "\r\n\r\n" + rest }

    /// A POST whose head ends with these fields, followed by `rest`.
    static func post(_ fields: String..., then rest: String = profile) -> String {
        line + (["Host: a"] + fields).joined(separator: "\r\n") + "\r\n\r\n" + rest
    }

    /// A valid POST apart from these fields.
    static func with(_ fields: String..., body: String = profile) -> String {
        line + (["Host: a", "Content-Length: \(body.utf8.count)"] + fields).joined(separator: "\r\n") + "\r\n\r\n" + body
    }

    /// A valid request apart from its first line.
    static func first(_ line: String, _ fields: String..., host: String = "Host: a", body: String = profile) -> String {
        ([line, host] + fields + ["Content-Length: \(body.utf8.count)"]).joined(separator: "\r\n") + "\r\n\r\n" + body
    }

    /// A valid POST apart from its target.
    static func target(_ target: String, _ fields: String...) -> String {
        (["POST \(target) HTTP/1.1", "Host: a"] + fields + ["Content-Length: 3"]).joined(separator: "\r\n") + "\r\n\r\n" + profile
    }

    /// A valid POST apart from its host.
    static func host(_ fields: String...) -> String {
        line + (fields + ["Content-Length: 3"]).joined(separator: "\r\n") + "\r\n\r\n" + profile
    }

    /// A POST with this chunked body.
    static func chunked(_ body: String) -> String { line + "Host: a\r\nTransfer-Encoding: chunked\r\n\r\n" + body }
}
