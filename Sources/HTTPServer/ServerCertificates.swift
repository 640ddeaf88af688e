import ConfigJSON
import LinuxSystem
import Synchronization
import Telemetry

/// The TLS context of one listener, made again when its files change. Thread-safe.
final class ServerCertificates: Sendable {
    private let config: TLSConfig
    private let state: Mutex<State>

    private struct State {
        var context: TLSContext
        var stamps: [FileStamp?]
        /// The last logged error about files that cannot be used.
        var complaint = ""
    }

    init(_ config: TLSConfig) throws(FileProblems) {
        self.config = config
        let stamps = Self.stamps(config)
        state = Mutex(State(context: try TLSContext(config), stamps: stamps))
    }

    /// The context for new connections; open connections keep the one that they began with.
    var context: TLSContext { state.withLock { $0.context } }

    /// Whether a client's certificate is verified, so that it proves the client's identity.
    var verifiesClients: Bool { config.clientAuth.verifies }

    /// Reads the files again when one of them has changed. Files that cannot be used leave everything as it was and are tried
    /// again, because certificate and key are seldom replaced at the same moment.
    ///
    /// May block on the disk, so it must not run on an event loop.
    func refresh(listener: String) {
        let stamps = Self.stamps(config)
        guard stamps != state.withLock({ $0.stamps }) else { return }
        do throws(FileProblems) {
            let context = try TLSContext(config)
            state.withLock { $0 = State(context: context, stamps: stamps) }
            Log.info("TLS certificates read again", ["listener": listener])
        } catch {
            let isNew = state.withLock { state in
                defer { state.complaint = "\(error)" }
                return state.complaint != "\(error)"
            }
            guard isNew else { return }
            Log.error("TLS files changed and cannot be used; the old ones stay", ["listener": listener, "error": "\(error)"])
        }
    }

    private static func stamps(_ config: TLSConfig) -> [FileStamp?] {
        [config.certificate, config.key, config.clientAuthorities, config.revocationLists].map { $0?.stamp }
    }
}
