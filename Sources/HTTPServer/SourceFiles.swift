import ConfigJSON
import LinuxSystem
import Synchronization
import Telemetry

/// The files that a part of the config is read from, and whether they have changed since. Thread-safe.
final class SourceFiles: Sendable {
    private struct State {
        var stamps: [FileStamp?]
        /// The last logged error about files that cannot be used.
        var complaint = ""
    }

    private let sources: [ConfigSource?]
    private let state: Mutex<State>

    /// Notes the files' present state; must be made before they are read, so that no change is missed.
    init(_ sources: ConfigSource?...) {
        self.sources = sources
        state = Mutex(State(stamps: sources.map { $0?.stamp }))
    }

    /// Reads the files again when one of them has changed. Files that cannot be used leave everything as it was, and are tried again.
    ///
    /// May block on the disk, so it must not run on an event loop.
    ///
    /// - Parameters:
    ///   - success: the log message after they were read.
    ///   - failure: the log message when they cannot be used; it is logged once for each error.
    func refresh(listener: String, success: String, failure: String, _ read: () throws(FileProblems) -> Void) {
        let stamps = sources.map { $0?.stamp }
        guard stamps != state.withLock({ $0.stamps }) else { return }
        do throws(FileProblems) {
            try read()
            state.withLock { $0 = State(stamps: stamps) }
            Log.info(success, ["listener": listener])
        } catch {
            let isNew = state.withLock { state in
                defer { state.complaint = "\(error)" }
                return state.complaint != "\(error)"
            }
            if isNew { Log.error(failure, ["listener": listener, "error": "\(error)"]) }
        }
    }
}
