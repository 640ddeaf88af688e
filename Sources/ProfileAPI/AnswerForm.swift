import HTTPServer

/// The form of the answers to a request, by its API.
enum AnswerForm: Sendable {
    case ingest
    /// - gzip: whether the answer may be compressed.
    case push(PushForm, gzip: Bool)

    var success: Response {
        switch self {
        case .ingest: .ok
        case .push(let form, let gzip): form.success(gzip: gzip)
        }
    }

    func failure(_ status: Int, _ message: String) -> Response {
        switch self {
        case .ingest: .error(status, message)
        case .push(let form, _): form.failure(PushFailure(ConnectCode(destinationStatus: status), message))
        }
    }

    func failure(_ invalid: InvalidRequest) -> Response {
        switch self {
        case .ingest:
            var response = Response.error(invalid.status, invalid.message)
            response.headers += invalid.headers
            return response
        case .push(let form, _): return form.failure(PushFailure(invalid))
        }
    }
}
