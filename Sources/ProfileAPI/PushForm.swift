import HTTPServer
import LinuxSystem
import PushWire

/// The form of a Push and of its answer, by Content-Type: the Connect protocol or gRPC-Web, in protobuf or JSON.
struct PushForm: Sendable, Equatable {
    enum Codec: Sendable { case proto, json }

    let contentType: String
    let codec: Codec
    let isGRPCWeb: Bool
    /// Whether gRPC-Web bodies are base64, for clients that cannot handle binary bodies.
    let isText: Bool

    private static let connect: [(String, Codec)] = [
        ("application/json", .json), ("application/json; charset=utf-8", .json), ("application/proto", .proto),
    ]
    private static let grpcWeb: [(String, Codec)] = [
        ("application/grpc-web", .proto), ("application/grpc-web+json", .json), ("application/grpc-web+proto", .proto),
        ("application/grpc-web-text", .proto), ("application/grpc-web-text+proto", .proto),
    ]

    /// The forms by their types, which have no spaces here.
    private static let forms = (grpcWeb + connect).map { (type: $0.0.utf8.filter { $0 != space }, form: PushForm($0.0, $0.1)) }
    private static let space = UInt8(ascii: " ")

    /// The value of `Accept-Post` in a 415 answer.
    static let served = (grpcWeb + connect).map(\.0).joined(separator: ", ")

    private init(_ type: String, _ codec: Codec) {
        isGRPCWeb = type.hasPrefix("application/grpc-web")
        isText = type.hasPrefix("application/grpc-web-text")
        contentType = isGRPCWeb ? type : codec == .json ? "application/json" : "application/proto"
        self.codec = codec
    }

    /// Reads a Content-Type; nil when it is absent or not supported.
    init?(_ head: RequestHead) {
        guard let value = head.value(of: "content-type") else { return nil }
        let type = value.filter { $0 != Self.space }.map(\.lowercased)
        guard let form = Self.forms.first(where: { $0.type == type })?.form else { return nil }
        self = form
    }

    func failure(_ failure: PushFailure) -> Response {
        guard isGRPCWeb else { return .connect(failure.code, failure.message, headers: failure.headers) }
        let trailers = GRPCWeb.trailers(failure.code, failure.message)
        var response = response(trailers)
        // Every gRPC-Web answer has HTTP status 200; this one is counted instead.
        response.outcome = failure.code.httpStatus
        response.headers += failure.headers
        return response
    }

    /// The answer to a successful Push. PushResponse has no fields: no bytes in protobuf, `{}` in JSON.
    func success(gzip: Bool) -> Response {
        let message = Array((codec == .json ? "{}" : "").utf8)
        if isGRPCWeb { return response(GRPCWeb.frame(message) + GRPCWeb.trailers(nil, "")) }
        guard gzip, !message.isEmpty, let compressed = Gzip.deflate(message) else { return response(message) }
        var response = response(compressed)
        response.headers.append(("Content-Encoding", "gzip"))
        return response
    }

    private func response(_ body: [UInt8]) -> Response {
        Response(status: 200, headers: [("Content-Type", contentType)], body: isText ? Base64.encode(body) : body)
    }
}
