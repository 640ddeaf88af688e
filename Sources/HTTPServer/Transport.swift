import LinuxSystem

/// The transport of a connection's bytes: its socket, with or without TLS.
struct Transport: ~Copyable, Sendable {
    private let socket: FileDescriptor
    private var tls: TLSSession?

    init(_ socket: consuming FileDescriptor) { self.socket = socket }

    /// Moves the socket and its TLS state out; the value that is left here can neither read nor write.
    mutating func take() -> Transport {
        var taken = Transport(FileDescriptor(owning: -1))
        swap(&taken, &self)
        return taken
    }

    /// The socket's descriptor number; borrowed, valid while this value lives.
    var number: Int32 { socket.number }
    var isSecure: Bool { tls != nil }
    var hasVerifiedCertificate: Bool { tls?.hasVerifiedCertificate ?? false }
    /// Whether TLS holds decrypted bytes that have not been received yet.
    var hasUnread: Bool { tls?.hasUnread ?? false }
    /// Whether receiving can continue only when the socket is writable.
    var readWantsWritable: Bool { tls?.readWantsWritable ?? false }

    /// Whether the client has not been checked against the requirements that new clients must meet now.
    func isOutdated(under current: TLSContext?) -> Bool {
        tls?.isOutdated(under: current) ?? (current?.requiresCertificate == true)
    }

    /// Why the peer is not to be served any more, by the requirements for new clients; see ``TLSSession/objection(under:at:)``.
    func objection(under current: TLSContext?, at time: @autoclosure () -> Int64) -> String? {
        if let tls { return tls.objection(under: current, at: time()) }
        return current?.requiresCertificate == true ? "a client certificate is required now" : nil
    }

    /// Begins TLS; false when there is no memory for it.
    mutating func beginTLS(_ context: TLSContext) -> Bool {
        tls = context.session(number)
        return tls != nil
    }

    func handshake() -> TLSSession.Handshake { tls?.handshake() ?? .done }

    /// Drops TLS, so that a peer that speaks plain HTTP can be answered.
    mutating func fallBackToPlain() { tls = nil }

    /// Reads the available bytes into `buffer`, at most `limit` bytes.
    func receive(into buffer: inout [UInt8], atMost limit: Int) -> Transfer {
        guard let tls else { return Socket.receive(number, into: &buffer, atMost: limit) }
        return unsafe buffer.withUnsafeMutableBytes { buffer in
            unsafe tls.read(into: UnsafeMutableRawBufferPointer(rebasing: buffer[..<min(limit, buffer.count)]))
        }
    }

    /// Receives to the end of `content`, at most `limit` bytes, after making room for `room` bytes.
    func receive(into content: inout ByteBuffer, room: Int, limit: Int) throws(SystemError) -> Transfer {
        guard let tls else { return try content.receive(from: number, room: room, limit: limit) }
        return unsafe try content.receive(room: room, limit: limit) { unsafe tls.read(into: $0) }
    }

    /// Sends from `bytes`, beginning at `offset`.
    func send(_ bytes: [UInt8], from offset: Int) -> Transfer {
        guard let tls else { return Socket.send(number, bytes, from: offset) }
        return unsafe bytes.withUnsafeBytes { buffer in
            unsafe tls.write(UnsafeRawBufferPointer(rebasing: buffer[offset...]))
        }
    }

    /// Tells the peer that nothing more will be sent; reading goes on.
    func finishSending() {
        tls?.sayGoodbye()
        Socket.finishSending(number)
    }

    /// Ends TLS before the socket is closed.
    func prepareToClose() { tls?.sayGoodbye() }
}
