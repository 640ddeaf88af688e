package import LinuxSystem

/// A listener's `http` block; names and defaults are Alloy's.
package struct HTTPConfig: Equatable {
    /// Empty is all interfaces; `unix:` and a path is a Unix socket.
    package var address = ""
    /// 0 is any free port.
    package var port: UInt16 = 8080
    /// The permissions of the file of a Unix socket.
    package var socketMode: UInt32 = 0o660
    /// The most connections at a time; 0 is no limit.
    package var connLimit = 16384
    /// The most connections from one address; 0 is no limit.
    package var connLimitPerAddress = 0
    /// How long a request may take to arrive, head and body.
    package var readTimeout = Duration.seconds(30)
    /// How long an answer may take to become ready, and then to be sent.
    package var writeTimeout = Duration.seconds(30)
    /// The fewest bytes a second that a body must bring; 0 is no bound.
    package var minimumBodyRate = 1 << 10
    /// How long a connection may wait for its next request.
    package var idleTimeout = Duration.seconds(120)
    /// The age at which a connection closes with its next answer; zero is never.
    package var maximumConnectionAge = Duration.zero
    /// Whose X-Forwarded-For and PROXY headers are believed.
    package var trustedProxies = AddressRanges()
    /// Whether each connection begins with a PROXY header.
    package var proxyProtocol = false
    /// nil serves plain HTTP.
    package var tls: TLSConfig?
    /// nil lets everybody send.
    package var auth: AuthConfig?

    package init(address: String = "", port: UInt16 = 8080, connLimit: Int = 16384) {
        (self.address, self.port, self.connLimit) = (address, port, connLimit)
    }
}
