import ConfigJSON
import LinuxSystem
import Synchronization

/// The TLS of one listener, read again when its files change; from any thread.
final class ServerCertificates: Sendable {
    private let config: TLSConfig
    private let state: Mutex<State>

    private struct State {
        var context: TLSContext
        var stamps: [FileStamp?]
        /// What was last said of files that cannot be used.
        var complaint = ""
    }

    init(_ config: TLSConfig) throws(FileProblems) {
        self.config = config
        let stamps = Self.stamps(config)
        state = Mutex(State(context: try TLSContext(config), stamps: stamps))
    }

    /// What new connections get; those that are open keep what they began with.
    var context: TLSContext { state.withLock { $0.context } }

    /// Whether a certificate that a client shows says who it is.
    var verifiesClients: Bool { config.clientAuth.verifies }

    /// Reads the files again when one of them was changed; what cannot be used leaves everything as it was, and is tried again,
    /// for certificate and key are seldom replaced in one moment.
    ///
    /// May block on the disk, so it is not for an event loop.
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
