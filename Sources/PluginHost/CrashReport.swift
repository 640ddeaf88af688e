import CCrashGuard

/// What the notes of a process that did not end in order say about its plugins; see `Sources/CCrashGuard`.
package struct CrashReport: Equatable, Sendable {
    /// One plugin instance.
    package struct Instance: Equatable, Sendable {
        package var receiver: String
        /// The plugin's name, version and path; or the name in the config while it is being loaded.
        package var plugin = ""
        /// The call into it that had not returned; nil for none.
        package var call: CallRecord.Call?
        /// The sequence of the profile that this call had; 0 for none.
        package var sequence: UInt64 = 0
        /// The sequence of the profile that was delivered alone, because it was open at an earlier crash; 0 for none.
        package var alone: UInt64 = 0
        /// Whether the process crashed in this plugin's code, or in a call into it.
        package var isCulprit = false
        /// The sequences of the profiles that were open.
        package var open: Set<UInt64> = []

        package init(receiver: String) { self.receiver = receiver }

        /// Whether the plugin was being loaded, or its instance created.
        package var isStarting: Bool { call == .load || call == .create }
    }

    /// The signal's name, or `exit`; nil when the process ended without a word, as by SIGKILL.
    package var cause: String?
    /// Unix seconds.
    package var time: Int64
    package var instances: [Instance] = []

    package init(cause: String?, time: Int64, _ instances: [Instance] = []) {
        (self.cause, self.time, self.instances) = (cause, time, instances)
    }

    /// Reads notes.
    ///
    /// - Parameters:
    ///   - notes: memory of ``CrashGuard/size`` bytes.
    ///   - now: the time of the report if the process could not note it; Unix seconds.
    /// - Returns: nil when the process ended in order, or the memory holds something else.
    package init?(_ notes: UnsafeMutableRawPointer, now: Int64) {
        var (name, when): (UnsafePointer<CChar>?, Int64) = (nil, 0)
        guard unsafe crash_guard_has_report(notes, &name, &when) else { return nil }
        let cause = unsafe name.map { unsafe String(cString: $0) } ?? ""
        self.init(cause: cause.isEmpty ? nil : cause, time: when == 0 ? now : when)
        for index in 0..<CRASH_GUARD_SLOTS {
            var entry = unsafe crash_guard_entry()
            if unsafe crash_guard_read(notes, index, &entry) { instances.append(unsafe Instance(entry)) }
        }
    }

    /// The instances whose code or call the process crashed in.
    package var culprits: [Instance] { instances.filter(\.isCulprit) }
}

extension CrashReport.Instance {
    fileprivate init(_ entry: crash_guard_entry) {
        unsafe self.init(receiver: String(cString: entry.receiver))
        plugin = unsafe String(cString: entry.plugin)
        call = unsafe CallRecord.Call(rawValue: entry.call.rawValue)
        sequence = unsafe call == nil ? 0 : entry.sequence
        (alone, isCulprit) = unsafe (entry.alone, entry.is_culprit)
        for index in 0..<CRASH_GUARD_OPEN {
            let sequence = unsafe entry.open[index]
            if sequence != 0 { open.insert(sequence) }
        }
    }
}
