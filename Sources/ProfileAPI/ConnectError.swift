import ConfigJSON
import HTTPServer

/// The error codes of the Connect protocol, with their HTTP statuses.
enum ConnectCode: String, Sendable {
    case canceled, unknown, `internal`, unavailable, unimplemented, unauthenticated, aborted
    case invalidArgument = "invalid_argument"
    case deadlineExceeded = "deadline_exceeded"
    case notFound = "not_found"
    case permissionDenied = "permission_denied"
    case resourceExhausted = "resource_exhausted"

    var httpStatus: Int {
        switch self {
        case .canceled: 499
        case .unknown, .internal: 500
        case .unavailable: 503
        case .unimplemented: 501
        case .unauthenticated: 401
        case .aborted: 409
        case .invalidArgument: 400
        case .deadlineExceeded: 504
        case .notFound: 404
        case .permissionDenied: 403
        case .resourceExhausted: 429
        }
    }

    /// gRPC's number for the code.
    var grpcStatus: Int {
        switch self {
        case .canceled: 1
        case .unknown: 2
        case .invalidArgument: 3
        case .deadlineExceeded: 4
        case .notFound: 5
        case .permissionDenied: 7
        case .resourceExhausted: 8
        case .aborted: 10
        case .unimplemented: 12
        case .internal: 13
        case .unavailable: 14
        case .unauthenticated: 16
        }
    }

    /// The code nearest to a destination's own HTTP status, so that a client that retries by code does what the status asks for.
    init(destinationStatus status: Int) {
        switch status {
        case 401: self = .unauthenticated
        case 403: self = .permissionDenied
        case 404: self = .notFound
        case 408, 504: self = .deadlineExceeded
        case 409: self = .aborted
        case 429: self = .resourceExhausted
        case 499: self = .canceled
        case 400..<500: self = .invalidArgument
        case 501: self = .unimplemented
        case 502, 503: self = .unavailable
        default: self = .internal
        }
    }
}

extension Response {
    /// An error in the form of a Connect unary call: JSON whatever the request's codec, never compressed.
    static func connect(_ code: ConnectCode, _ message: String, headers: [(name: String, value: String)] = []) -> Response {
        let body = "{\"code\":\"\(code.rawValue)\",\"message\":\(JSONValue.quoted(message))}"
        var headers = [("Content-Type", "application/json")] + headers
        if code == .unavailable, !headers.contains(where: { $0.name == "Retry-After" }) { headers.append(("Retry-After", "1")) }
        return Response(status: code.httpStatus, headers: headers, body: Array(body.utf8))
    }
}
