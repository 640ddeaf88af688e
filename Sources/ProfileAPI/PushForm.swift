import HTTPServer
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

    private static let byType = Dictionary(uniqueKeysWithValues: (grpcWeb + connect).map { ($0.0.filter { $0 != " " }, $0) })

    /// The value of `Accept-Post` in a 415 answer.
    static let served = (grpcWeb + connect).map(\.0).joined(separator: ", ")

    /// Reads a Content-Type; nil when it is absent or not supported.
    init?(_ head: RequestHead) {
        guard let value = head.value(of: "content-type") else { return nil }
        let type = String(decoding: value, as: UTF8.self).lowercased().filter { $0 != " " }
        guard let (name, codec) = Self.byType[type] else { return nil }
        isGRPCWeb = name.hasPrefix("application/grpc-web")
        isText = name.hasPrefix("application/grpc-web-text")
        contentType = isGRPCWeb ? name : codec == .json ? "application/json" : "application/proto"
        self.codec = codec
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
