import CCrashGuard

/// The notes about one plugin instance for the case that the process crashes: the call into it, and its open deliveries. Thread-safe.
@safe package final class CallRecord: Sendable {
    /// The calls into a plugin; the raw values are those of the notes.
    package enum Call: UInt32, Sendable {
        case load = 1
        case create, deliver, flush, abort, destroy, start, drain, timer, probe, ready

        /// Its name in a report.
        package var name: String { "\(self)" }
    }

    private nonisolated(unsafe) let slot: OpaquePointer

    /// - Returns: nil when notes are not kept, or of too many instances already.
    package init?(receiver: String) {
        guard let slot = unsafe receiver.withCString({ unsafe crash_guard_add($0) }) else { return nil }
        unsafe self.slot = unsafe slot
    }

    deinit { unsafe crash_guard_remove(slot) }

    /// Names the plugin that is to be loaded.
    package func name(_ plugin: String) { unsafe plugin.withCString { unsafe crash_guard_name(slot, $0, nil) } }

    /// Names the plugin that was loaded, and notes where its code is.
    package func name(_ library: PluginLibrary) {
        let text = "\(library.name) \(library.version) \(library.path)"
        unsafe text.withCString { unsafe crash_guard_name(slot, $0, library.codeAddress) }
    }

    /// Makes a call into the plugin on this thread.
    ///
    /// - Parameter sequence: the profile's, or 0.
    package func during<R, E: Error>(_ call: Call, sequence: UInt64 = 0, _ body: () throws(E) -> R) throws(E) -> R {
        unsafe crash_guard_enter(slot, crash_guard_call(rawValue: call.rawValue), sequence)
        defer { crash_guard_leave() }
        return try body()
    }

    /// Notes a delivery that is open from now on.
    ///
    /// - Parameter place: of no other open delivery; from 512 on it is not noted.
    package func opened(_ place: Int, sequence: UInt64) { unsafe crash_guard_opened(slot, place, sequence) }
    package func closed(_ place: Int) { unsafe crash_guard_closed(slot, place) }

    /// Notes the profile that is delivered alone, because it was open at a crash; nil for none.
    package func alone(_ sequence: UInt64?) { unsafe crash_guard_alone(slot, sequence ?? 0) }
}

/// The notes that outlive a crash, and the handlers of fatal signals and of exit(3).
package enum CrashGuard {
    /// How many bytes the notes have.
    package static var size: Int { crash_guard_size() }

    /// Begins new notes, and installs the handlers at the first call.
    ///
    /// - Parameters:
    ///   - notes: shared memory of ``size`` bytes, which stays mapped until the process ends.
    ///   - copy: a file that the handlers write the notes to as well, and that stays open; nil for none.
    package static func begin(_ notes: UnsafeMutableRawPointer, copyingTo copy: Int32?) { unsafe crash_guard_begin(notes, copy ?? -1) }

    /// Notes that the process ends in order, so that its exit is no crash.
    package static func processEnds() { crash_guard_end() }
}
