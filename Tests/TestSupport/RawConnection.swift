import Foundation
import Glibc

/// A TCP connection to a local port that sends and reads raw bytes.
final class RawConnection {
    private(set) var socket: Int32
    private var received: [UInt8] = []

    struct Response {
        let status: Int
        let headers: [(name: String, value: String)]
        let body: [UInt8]

        var text: String { String(decoding: body, as: UTF8.self) }
        func header(_ name: String) -> String? { headers.first { $0.name.lowercased() == name.lowercased() }?.value }
    }

    /// - Parameters:
    ///   - receiveBuffer: the size of the kernel's receive buffer, for a client that does not read.
    ///   - number: the last number of the source address in 127.0.0.0/24; 0 is the usual address.
    init(_ port: UInt16, receiveBuffer: Int32? = nil, from number: UInt32 = 0) throws {
        socket = Glibc.socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        if var size = receiveBuffer {
            setsockopt(socket, SOL_SOCKET, SO_RCVBUF, &size, socklen_t(MemoryLayout<Int32>.size))
        }
        var patience = timeval(tv_sec: Int(Project.patience), tv_usec: 0)
        for option in [SO_RCVTIMEO, SO_SNDTIMEO] {
            setsockopt(socket, SOL_SOCKET, option, &patience, socklen_t(MemoryLayout<timeval>.size))
        }
        var on: Int32 = 1
        setsockopt(socket, Int32(IPPROTO_TCP), TCP_NODELAY, &on, socklen_t(MemoryLayout<Int32>.size))
        let bound = number == 0 ? 0 : Self.with(0, at: number) { bind(socket, $0, $1) }
        guard bound == 0, Self.with(port, at: 1, { connect(socket, $0, $1) }) == 0 else {
            let code = errno
            // `deinit` closes the socket: all properties have their values.
            throw NeverCame(what: "a connection to port \(port): \(String(cString: strerror(code)))", seen: [])
        }
    }

    deinit { close() }

    /// Calls the body with the address 127.0.0.`number`.
    private static func with(_ port: UInt16, at number: UInt32, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Int32) -> Int32 {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = (UInt32(0x7F00_0000) | number).bigEndian
        return withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, socklen_t(MemoryLayout<sockaddr_in>.size)) }
        }
    }

    // MARK: Sending

    @discardableResult
    func send(_ text: String) -> Bool { send(Array(text.utf8)) }

    /// - Returns: false when the peer accepts no more.
    @discardableResult
    func send(_ bytes: [UInt8]) -> Bool {
        var sent = 0
        while sent < bytes.count {
            let count = bytes[sent...].withUnsafeBytes { Glibc.send(socket, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { return false }
            sent += count
        }
        return true
    }

    /// Sends as much as the socket accepts at once.
    func sendWhatFits(_ bytes: [UInt8]) {
        let flags = Int32(MSG_NOSIGNAL) | Int32(MSG_DONTWAIT)
        var sent = 0
        while sent < bytes.count {
            let count = bytes[sent...].withUnsafeBytes { Glibc.send(socket, $0.baseAddress, $0.count, flags) }
            guard count > 0 else { return }
            sent += count
        }
    }

    /// Repeats the same bytes until the socket accepts no more.
    func fill(_ bytes: [UInt8]) {
        let flags = Int32(MSG_NOSIGNAL) | Int32(MSG_DONTWAIT)
        while bytes.withUnsafeBytes({ Glibc.send(socket, $0.baseAddress, $0.count, flags) }) == bytes.count {}
    }

    /// Posts a profile and reads the answer; the connection stays open.
    func post(_ target: String, _ body: String = "", headers: String = "") throws -> Response {
        send("POST \(target) HTTP/1.1\r\nHost: localhost\r\nContent-Length: \(body.utf8.count)\r\n\(headers)\r\n\(body)")
        return try readResponse()
    }

    func halfClose() { shutdown(socket, Int32(SHUT_WR)) }

    func close() {
        if socket >= 0 { Glibc.close(socket) }
        socket = -1
    }

    /// Closes with a reset.
    func reset() {
        var option = linger(l_onoff: 1, l_linger: 0)
        setsockopt(socket, SOL_SOCKET, SO_LINGER, &option, socklen_t(MemoryLayout<linger>.size))
        close()
    }

    // MARK: Receiving

    /// Whether bytes or the end of the stream have arrived.
    var hasInput: Bool {
        var poll = pollfd(fd: socket, events: Int16(POLLIN), revents: 0)
        return !received.isEmpty || Glibc.poll(&poll, 1, 0) > 0
    }

    /// The first byte that arrives, or nil at the end of the stream.
    func firstByte() throws -> UInt8? {
        while received.isEmpty { guard try receive() else { return nil } }
        return received.first
    }

    /// - Returns: false at the end of the stream.
    private func receive() throws -> Bool {
        var buffer = [UInt8](repeating: 0, count: 64 * 1024)
        var count = -1
        repeat { count = recv(socket, &buffer, buffer.count, 0) } while count < 0 && errno == EINTR
        // A reset is an end.
        if count < 0, errno != ECONNRESET {
            let why = String(cString: strerror(errno))
            throw NeverCame(what: "bytes from the gateway: \(why)", seen: [String(decoding: received, as: UTF8.self)])
        }
        guard count > 0 else { return false }
        received += buffer[..<count]
        return true
    }

    /// Reads one response, which may be a 100 Continue.
    func readResponse(toHead: Bool = false) throws -> Response {
        while true {
            if let response = takeResponse(toHead: toHead) { return response }
            guard try receive() else {
                throw NeverCame(what: "a whole response before the end", seen: [String(decoding: received, as: UTF8.self)])
            }
        }
    }

    /// Takes a complete response from the received bytes, if there is one.
    private func takeResponse(toHead: Bool) -> Response? {
        guard let end = received.indices.first(where: { received[$0...].starts(with: [13, 10, 13, 10]) }) else { return nil }
        let lines = String(decoding: received[..<end], as: UTF8.self).components(separatedBy: "\r\n")
        let headers = lines.dropFirst().map { line -> (name: String, value: String) in
            let parts = line.split(separator: ":", maxSplits: 1)
            return (String(parts[0]), parts.count > 1 ? parts[1].trimmingCharacters(in: .whitespaces) : "")
        }
        let length = toHead ? 0 : headers.first { $0.name == "Content-Length" }.flatMap { Int($0.value) } ?? 0
        guard received.count >= end + 4 + length else { return nil }
        let body = Array(received[(end + 4)..<(end + 4 + length)])
        received.removeFirst(end + 4 + length)
        let status = lines[0].split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? 0
        return Response(status: status, headers: headers, body: body)
    }

    /// Reads responses until the peer closes; remaining bytes count as one response with status 0.
    func readResponses(firstToHead: Bool = false) throws -> [Response] {
        var responses: [Response] = []
        while true {
            if let response = takeResponse(toHead: firstToHead && responses.isEmpty) {
                responses.append(response)
            } else if try !receive() {
                break
            }
        }
        guard !received.isEmpty else { return responses }
        defer { received = [] }
        return responses + [Response(status: 0, headers: [], body: received)]
    }

    /// Reads until a text has come, and returns what came up to its end.
    func read(until text: String) throws -> String {
        let wanted = Data(text.utf8)
        var searched = 0
        while true {
            if let found = Data(received[searched...]).range(of: wanted) {
                let end = searched + found.upperBound
                defer { received.removeFirst(end) }
                return String(decoding: received[..<end], as: UTF8.self)
            }
            searched = max(0, received.count - wanted.count + 1)
            guard try receive() else { throw NeverCame(what: text, seen: [String(decoding: received.suffix(2000), as: UTF8.self)]) }
        }
    }

    /// Reads until the peer closes, and returns what it sent.
    func readToEnd() throws -> String {
        while try receive() {}
        defer { received = [] }
        return String(decoding: received, as: UTF8.self)
    }
}
