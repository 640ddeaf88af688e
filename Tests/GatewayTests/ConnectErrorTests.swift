import Testing

@testable import HTTPServer
@testable import ProfileAPI

@Suite("Connect errors")
struct ConnectErrorTests {
    /// The statuses of `connectCodeToHTTP` in connect-go.
    static let statuses: [(String, Int)] = [
        ("canceled", 499), ("unknown", 500), ("invalid_argument", 400), ("deadline_exceeded", 504), ("not_found", 404),
        ("permission_denied", 403), ("resource_exhausted", 429), ("aborted", 409), ("unimplemented", 501), ("internal", 500),
        ("unavailable", 503), ("unauthenticated", 401),
    ]

    static let destinations: [(Int, ConnectCode)] = [
        (400, .invalidArgument), (401, .unauthenticated), (403, .permissionDenied), (404, .notFound), (408, .deadlineExceeded),
        (409, .aborted), (413, .invalidArgument), (422, .invalidArgument), (429, .resourceExhausted), (499, .canceled), (500, .internal),
        (501, .unimplemented), (502, .unavailable), (503, .unavailable), (504, .deadlineExceeded), (505, .internal), (599, .internal),
    ]

    @Test("Each code has the HTTP status of connect-go", arguments: statuses)
    func status(name: String, status: Int) throws { #expect(try #require(ConnectCode(rawValue: name)).httpStatus == status) }

    @Test("A destination's status becomes the matching code", arguments: destinations)
    func destination(status: Int, code: ConnectCode) { #expect(ConnectCode(destinationStatus: status) == code) }

    @Test("A code invites a retry exactly when the destination's status does", arguments: destinations)
    func keepsRetryability(status: Int, code: ConnectCode) {
        func invitesRetry(_ status: Int) -> Bool { status >= 500 && status != 501 || status == 429 || status == 408 }
        #expect(invitesRetry(code.httpStatus) == invitesRetry(status))
    }

    @Test("An error is JSON with the code and the escaped message")
    func body() {
        let response = Response.connect(.invalidArgument, "a \"b\"\n", headers: [("X", "y")])
        #expect(response.status == 400)
        #expect(String(decoding: response.body, as: UTF8.self) == #"{"code":"invalid_argument","message":"a \"b\"\n"}"#)
        #expect(response.headers.map { "\($0.name): \($0.value)" } == ["Content-Type: application/json", "X: y"])
    }

    @Test("Only the code unavailable has a Retry-After header")
    func retryAfter() {
        for (name, _) in Self.statuses {
            guard let code = ConnectCode(rawValue: name) else { continue }
            #expect(Response.connect(code, "").headers.contains { $0.name == "Retry-After" } == (code == .unavailable), "\(name)")
        }
    }
}
