import LinuxSystem
import Telemetry

extension HTTPConfig {
    /// What stands before the path of a Unix socket in `listen_address`.
    package static let unixScheme = "unix:"

    /// The path of the Unix socket that the address is; nil for one of TCP.
    package var socketPath: String? {
        address.hasPrefix(Self.unixScheme) ? String(address.dropFirst(Self.unixScheme.count)) : nil
    }

    /// Whether the two have the same address and port, so that a listening socket can be kept.
    package func hasAddress(of other: HTTPConfig) -> Bool { address == other.address && port == other.port }
}

/// A socket that listens, and its file when it is a Unix socket.
struct ListeningSocket: ~Copyable {
    let descriptor: FileDescriptor
    /// Removed with the last listener that has it.
    private let file: SocketFile?

    init(_ http: HTTPConfig) throws(SystemError) {
        if let path = http.socketPath?.absolutePath {
            let opened = try Socket.listen(path: path, mode: http.socketMode)
            file = try SocketFile(path)
            descriptor = opened
        } else {
            descriptor = try Socket.listen(address: http.address, port: http.port)
            file = nil
        }
    }

    private init(_ descriptor: consuming FileDescriptor, _ file: SocketFile?) {
        self.descriptor = descriptor
        self.file = file
    }

    /// Another descriptor of the same socket.
    func share() throws(SystemError) -> ListeningSocket { ListeningSocket(try descriptor.duplicate(), file) }

    /// The port in use; 0 for a Unix socket.
    var port: UInt16 { file == nil ? Socket.port(of: descriptor) : 0 }

    /// Changes the permissions of a Unix socket.
    func set(mode: UInt32, listener: String) {
        do throws(SystemError) { try file?.set(mode: mode) } catch {
            Log.error("the permissions of the socket cannot be changed", ["listener": listener, "error": "\(error)"])
        }
    }
}
