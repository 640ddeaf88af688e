import ConfigJSON
import LinuxSystem
import Synchronization

/// The TLS context of one listener, made again when its files change. Thread-safe.
final class ServerCertificates: Sendable {
    private let config: TLSConfig
    private let files: SourceFiles
    private let current: Mutex<TLSContext>

    init(_ config: TLSConfig) throws(FileProblems) {
        self.config = config
        files = SourceFiles(config.certificate, config.key, config.clientAuthorities, config.revocationLists)
        current = Mutex(try TLSContext(config))
    }

    /// The context for new connections; open connections keep the one that they began with.
    var context: TLSContext { current.withLock { $0 } }

    /// Whether a client's certificate is verified, so that it proves the client's identity.
    var verifiesClients: Bool { config.clientAuth.verifies }

    /// Reads the files again when one of them has changed; certificate and key are seldom replaced at the same moment, so files
    /// that do not fit are tried again. May block on the disk.
    func refresh(listener: String) {
        files.refresh(
            listener: listener, success: "TLS certificates read again", failure: "TLS files changed and cannot be used; the old ones stay"
        ) { () throws(FileProblems) in
            let context = try TLSContext(config)
            current.withLock { $0 = context }
        }
    }
}
