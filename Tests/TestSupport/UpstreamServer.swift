import Foundation
import Glibc

/// An HTTP upstream that keeps all requests and gives the answers of the test.
final class UpstreamServer: Sendable {
    struct Request: Sendable {
        /// The connection's number, counted from 0.
        let connection: Int
        let head: String
        let body: [UInt8]

        var target: String { String(head.split(separator: " ").dropFirst().first ?? "") }
        /// The header lines, sorted.
        var headers: [String] { head.split(separator: "\r\n").dropFirst().map(String.init).sorted() }
    }

    private struct State {
        var requests: [Request] = []
        var sockets: [TestSocket] = []
        var connections = 0
        var isStopped = false
    }

    let port: UInt16
    var url: String { "http://127.0.0.1:\(port)" }
    private let listening: TestSocket
    private let state = WaitableValue(State())

    /// - Parameters:
    ///   - closes: whether each connection is closed after an answer.
    ///   - answer: the bytes of the response to request number `index`, or nil to close the connection. It runs on the thread of the
    ///     connection and may wait.
    init(closes: Bool = false, _ answer: @escaping @Sendable (_ index: Int, Request) -> String?) throws {
        (listening, port) = try TestSocket.bound()
        guard listen(listening.number, 64) == 0 else { throw Obstacle("cannot listen: errno \(errno)") }
        Thread.detachNewThread { [state, listening] in Self.acceptAll(listening, state, closes, answer) }
    }

    /// A server that always gives the same answer.
    convenience init(always status: String, headers: String = "", body: String = "") throws {
        let text = Self.response(status, headers: headers, body: body)
        try self.init { _, _ in text }
    }

    deinit {
        listening.shutDown()
        let open = state.update { state in
            state.isStopped = true
            return state.sockets
        }
        for socket in open { socket.shutDown() }
    }

    /// A response with this status and body.
    static func response(_ status: String, headers: String = "", body: String = "") -> String {
        "HTTP/1.1 \(status)\r\n\(headers)Content-Length: \(body.utf8.count)\r\n\r\n\(body)"
    }

    /// Every request so far, in order.
    var requests: [Request] { state.current.requests }

    /// Waits for this many requests.
    func requests(_ count: Int) throws -> [Request] {
        try state.wait(for: "\(count) requests") { $0.requests.count >= count ? $0.requests : nil }
    }

    /// How many connections are open.
    var connections: Int { state.current.sockets.count }

    /// Waits until at most this many connections are open.
    func waitForConnections(_ most: Int) throws {
        _ = try state.wait(for: "\(most) connections at most") { $0.sockets.count <= most ? true : nil }
    }

    /// Accepts connections, each of which gets a thread, until the server stops.
    private static func acceptAll(
        _ listening: TestSocket, _ state: WaitableValue<State>, _ closes: Bool, _ answer: @escaping @Sendable (Int, Request) -> String?
    ) {
        while true {
            let accepted = accept(listening.number, nil, nil)
            if accepted < 0, errno == EINTR { continue }
            guard accepted >= 0 else { return }
            let socket = TestSocket(owning: accepted)
            let number = state.update { state in
                state.sockets.append(socket)
                state.connections += 1
                return state.isStopped ? nil : state.connections - 1
            }
            guard let number else { return }
            Thread.detachNewThread { serve(socket, number, state, closes, answer) }
        }
    }

    /// Answers the requests of one connection.
    private static func serve(
        _ socket: TestSocket, _ number: Int, _ state: WaitableValue<State>, _ closes: Bool, _ answer: @Sendable (Int, Request) -> String?
    ) {
        var buffer: [UInt8] = []
        while let request = readRequest(socket.number, number, &buffer) {
            let index = state.update { state in
                state.requests.append(request)
                return state.requests.count - 1
            }
            guard let text = answer(index, request) else { break }
            let bytes = Array(text.utf8)
            _ = send(socket.number, bytes, bytes.count, Int32(MSG_NOSIGNAL))
            if closes { break }
        }
        state.update { state in state.sockets.removeAll { $0 === socket } }
    }

    /// Reads one request, or returns nil at the end of the connection.
    private static func readRequest(_ socket: Int32, _ number: Int, _ buffer: inout [UInt8]) -> Request? {
        let blank = Array("\r\n\r\n".utf8)
        while true {
            if let end = buffer.indices.first(where: { buffer[$0...].starts(with: blank) }) {
                let head = String(decoding: buffer[..<end], as: UTF8.self)
                let length =
                    head.lowercased().split(separator: "\r\n").first { $0.hasPrefix("content-length:") }
                    .flatMap { Int($0.dropFirst(15).filter { $0 != " " }) } ?? 0
                if buffer.count >= end + 4 + length {
                    let body = Array(buffer[(end + 4)..<(end + 4 + length)])
                    buffer.removeFirst(end + 4 + length)
                    return Request(connection: number, head: head, body: body)
                }
            }
            var part = [UInt8](repeating: 0, count: 65536)
            let count = recv(socket, &part, part.count, 0)
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { return nil }
            buffer += part[..<count]
        }
    }
}
