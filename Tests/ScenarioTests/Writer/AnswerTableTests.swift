import Foundation
import Testing

@testable import TestSupport

/// Tests each row of the table in `docs/operations.md` with matching answers of a server.
@Suite("Table of answers and their outcomes", .serialized)
struct AnswerTableTests {
    /// One answer to a profile of one API.
    struct Case: Sendable {
        enum API { case ingest, push }
        let api: API
        let answer: AnswerServer.Answer
        /// A URL to use instead of the server's.
        var url: String?
        var status: Int?
    }

    /// A complete answer with this status.
    private static func plain(_ status: Int, type: String = "", headers: String = "", body: String = "") -> AnswerServer.Answer {
        let type = type.isEmpty ? "" : "Content-Type: \(type)\r\n"
        let length = status == 204 || status == 304 ? "" : "Content-Length: \(body.utf8.count)\r\n"
        return AnswerServer.Answer(raw: "HTTP/1.1 \(status) Status\r\n\(type)\(headers)\(length)\r\n\(body)")
    }

    /// Cases of these answers for both APIs.
    private static func both(_ answers: AnswerServer.Answer..., status: Int? = nil) -> [Case] {
        answers.flatMap { [Case(api: .ingest, answer: $0, status: status), Case(api: .push, answer: $0, status: status)] }
    }

    /// Cases of these statuses for both APIs.
    private static func statuses(_ statuses: [Int], headers: String = "", body: String = "") -> [Case] {
        statuses.flatMap { both(plain($0, headers: headers, body: body), status: $0) }
    }

    /// A case of a Connect error in answer to a Push.
    private static func push(_ status: Int, code: String) -> [Case] {
        [Case(api: .push, answer: plain(status, type: "application/json", body: "{\"code\":\"\(code)\"}"), status: status)]
    }

    /// Cases of an answer with an endless body for both APIs.
    private static func endless(_ status: Int, chunked more: String = "10000\r\n\(String(repeating: "z", count: 0x10000))\r\n") -> [Case] {
        both(AnswerServer.Answer(raw: "HTTP/1.1 \(status) S\r\nTransfer-Encoding: chunked\r\n\r\n", more: more), status: status)
    }

    private static let field = "X-Field: \(String(repeating: "f", count: 1000))\r\n"
    private static let tooLarge = #"{"code":"resource_exhausted","message":"message size 9 is larger than configured max 8"}"#

    /// The cases of each row, by its description of the destination.
    static let cases: [String: [Case]] = [
        "answers 200, 201, 202, 204 or 206 as a Pyroscope does": statuses([200, 201, 202, 204, 206])
            + [
                Case(api: .push, answer: plain(200, type: "application/proto", body: "\u{8}\u{1}")),
                Case(api: .ingest, answer: plain(200, body: "ok")),
            ],
        "answers 200 with `text/html`, or with a page that has no content type":
            both(plain(200, type: "text/html", body: "<p>"), plain(200, body: "<!doctype html>"), status: 200),
        "answers a Push with 200 and a body that is not `application/proto`": push(200, code: "unavailable")
            + [Case(api: .push, answer: plain(200, body: "x"))],
        "answers 200 with a body of more than 1 MiB, or without end": endless(200)
            + both(plain(200, type: "application/proto", body: String(repeating: "x", count: 1 << 20 + 1))),
        "answers 200 with more than 64 KiB of head and trailers, or without end":
            both(AnswerServer.Answer(raw: "HTTP/1.1 200 OK\r\n", more: field), status: 200)
            + both(AnswerServer.Answer(raw: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", more: field)),
        "answers 200 and then framing alone, such as extensions of chunks without end":
            both(
                AnswerServer.Answer(
                    raw: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;", more: String(repeating: "e", count: 0x10000)),
                status: 200),
        "answers 301, 302, 307 or 308, and the place it names takes the profile":
            statuses([301, 302, 307, 308], headers: "Location: /taken/x\r\n"),
        "answers 302 to a login page": statuses([302], headers: "Location: /login/?next=x\r\n"),
        "redirects to another host": both(
            plain(307, headers: "Location: http://localhost:1/\r\n"), plain(302, headers: "Location: //name.invalid/x\r\n")),
        "answers 300, 303 or 304, or a redirect that goes in a circle or nowhere": statuses(
            [300, 303, 304], headers: "Location: /taken/x\r\n")
            + both(plain(307), plain(308, headers: "Location: /circle/\r\n")),
        "answers 400": statuses([400]), "answers 401 or 403": statuses([401, 403]),
        "answers 404, 405, 409, 410, 415, 421, 423, 425 or 431": statuses([404, 405, 409, 410, 415, 421, 423, 425, 431]),
        "answers 407 or 408": statuses([407, 408]),
        "answers a Push with 409 `aborted` or 499 `canceled`": push(409, code: "aborted") + push(499, code: "canceled"),
        "answers 413": statuses([413]), "answers 422": statuses([422]),
        "answers 429": statuses([429], headers: "Retry-After: 1\r\n") + statuses([429]),
        "answers 429 and says \"is larger than configured max\"": statuses([429], body: tooLarge),
        "answers 500, 502, 504, 505, 507 or 599": statuses([500, 502, 504, 505, 507, 599]), "answers 501": statuses([501]),
        "answers a Push with 501 `unimplemented`": push(501, code: "unimplemented"),
        "answers 503 with Retry-After": statuses([503], headers: "Retry-After: 1\r\n"),
        "answers 400 with more than 1 MiB of body, or 64 KiB of head": endless(400)
            + both(AnswerServer.Answer(raw: "HTTP/1.1 400 No\r\n", more: field), status: 400),
        "answers 600 or 999": statuses([600, 999]),
        "takes no connection, or its name is not known":
            ["http://127.0.0.1:1", "http://name.invalid"].map { Case(api: .ingest, answer: plain(200), url: $0) },
        "hangs up or resets before it answers":
            both(AnswerServer.Answer(raw: "", then: "close"), AnswerServer.Answer(raw: "", then: "reset")),
        "hangs up in the middle of an answer":
            both(
                AnswerServer.Answer(raw: "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", then: "close"),
                AnswerServer.Answer(raw: "HTTP/1.1 200 OK\r\nTransfer-Enc", then: "close")),
        "answers nothing within `remote_timeout`": both(AnswerServer.Answer(raw: "", then: "silent")),
        "speaks no HTTP": both(AnswerServer.Answer(raw: "SSH-2.0-OpenSSH_9.2\r\n", then: "close")),
    ]

    @Test(
        "An answer of endless framing is abandoned before its timeout, and one of small chunks is accepted", arguments: ["auto", "libcurl"])
    func framing(client: String) throws {
        try Scenario.run { scenario in
            let extensions = AnswerServer.Answer(
                raw: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;", more: String(repeating: "e", count: 0x10000))
            // This answer has many chunks of one byte, each with an extension.
            let small = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\(String(repeating: "1;e=f\r\nx\r\n", count: 500))0\r\n\r\n"
            let server = try AnswerServer(scenario, ["bad": extensions, "good": AnswerServer.Answer(raw: small)])
            let receivers = ["bad", "good"].map { name in
                let url = "http://127.0.0.1:\(server.port)/\(name)"
                return (
                    name,
                    ReceiverEntry.endpoint(url, "\"client\": \"\(client)\", \"remote_timeout\": \"10m\"", more: ReceiverEntry.oneRetry)
                )
            }
            let gateway = try GatewayProcess(scenario, receivers: Dictionary(uniqueKeysWithValues: receivers))
            #expect(try RawConnection(gateway.port).post("/ingest?name=a", String(repeating: "b", count: 4 << 20)).status == 200)
            let metrics = try gateway.waitForOutcomes()
            #expect((metrics.delivered("good"), metrics.dropped("bad", "retries_exhausted")) == (1, 1))
            #expect(try gateway.page("/api/v1/status").text.contains("the answer has nothing but framing"))
        }
    }

    /// A case with the name of its receiver, which is also its path on the server.
    private struct Cell {
        let name: String
        let row: AnswerTable.Row
        let test: Case
    }

    @Test("The cases cover exactly the rows of the table and their statuses")
    func complete() throws {
        let rows = try AnswerTable.rows()
        #expect(Set(rows.map(\.what)) == Set(Self.cases.keys))
        for row in rows {
            #expect(["delivered", "retried", "rejected"].contains(row.fate))
            #expect(Set((Self.cases[row.what] ?? []).compactMap(\.status)) == row.statuses, "\(row.what)")
        }
    }

    @Test("Each answer has the outcome that the table says", arguments: ["auto", "libcurl"])
    func walk(client: String) throws {
        let cells = try AnswerTable.rows().enumerated().flatMap { index, row in
            (Self.cases[row.what] ?? []).enumerated().map { Cell(name: "r\(index)-\($0)", row: row, test: $1) }
        }
        try Scenario.run { scenario in
            var answers = Dictionary(uniqueKeysWithValues: cells.map { ($0.name, $0.test.answer) })
            answers["taken"] = Self.plain(200)
            answers["login"] = Self.plain(200, type: "text/html", body: "<form>")
            answers["circle"] = Self.plain(308, headers: "Location: /circle/\r\n")
            let server = try AnswerServer(scenario, answers)
            let receivers = cells.map { cell in
                let url = cell.test.url ?? "http://127.0.0.1:\(server.port)/\(cell.name)"
                // Only silent servers need to run into this timeout, once they have the request.
                let timeout = cell.test.answer.then == "silent" ? (Project.isSanitized ? "10s" : "2s") : "60s"
                let members = "\"client\": \"\(client)\", \"remote_timeout\": \"\(timeout)\""
                return (cell.name, ReceiverEntry.endpoint(url, members, more: ReceiverEntry.oneRetry))
            }
            let names = [Case.API.ingest, .push].map { api in cells.filter { $0.test.api == api }.map(\.name) }
            let listeners = GatewayProcess.listener(names[0]) + GatewayProcess.listener(names[1], name: "pushes")
            let config = GatewayProcess.config(listeners: listeners, receivers: Dictionary(uniqueKeysWithValues: receivers))
            let gateway = try GatewayProcess(scenario, config)
            try gateway.send(1)
            let pushes = try RawConnection(gateway.ports["pushes"] ?? 0)
            #expect(try pushes.push([.numbered(1)]).status == 200)
            let metrics = try gateway.waitForOutcomes()
            // The server prints a line for each request, in order: once the line for this one is read, all earlier lines are.
            #expect(try RawConnection(server.port).post("/taken/last").status == 200)
            let targets = try server.targets(to: "/taken/last")
            for cell in cells {
                let comment: Comment = "\(cell.row.what), by \(cell.test.api): \(cell.test.answer.raw.prefix(120))"
                let fates = [
                    "delivered": metrics.delivered(cell.name), "rejected": metrics.dropped(cell.name, "rejected"),
                    "retried": metrics.dropped(cell.name, "retries_exhausted"),
                ]
                #expect(fates[cell.row.fate] == 1, comment)
                guard cell.test.url == nil else { continue }
                // A client itself may repeat a request that the server cannot have begun.
                let attempts = targets.count { $0.hasPrefix("/\(cell.name)/") }
                #expect(cell.row.fate == "retried" ? attempts >= 2 : attempts == 1, comment)
            }
        }
    }
}
