import LinuxSystem
import Synchronization
import Telemetry

/// A change of a record's state that a receiver's queue reports to the spool, to be written to the segment's `.settled` file.
struct SpoolNote: Sendable {
    var position: SpoolPosition
    var receiver: String
    /// nil when the record is settled.
    var attempt: SpoolAttempt?
}

extension Spool {
    /// How long a note may wait so that it is written together with others; a crash within this time means a repeated delivery.
    private static let noteDelay = Duration.milliseconds(1)

    /// Notes that a receiver no longer needs a record.
    func settle(_ position: SpoolPosition, _ receiver: String, by reader: SpoolQueue? = nil) {
        note(SpoolNote(position: position, receiver: receiver), by: reader)
    }

    /// Notes a receiver's attempt at a record that it has not settled.
    func attempted(_ position: SpoolPosition, _ receiver: String, _ attempt: SpoolAttempt, by reader: SpoolQueue? = nil) {
        note(SpoolNote(position: position, receiver: receiver, attempt: attempt), by: reader)
    }

    private func note(_ note: SpoolNote, by reader: SpoolQueue?) {
        let wakes = state.withLock { state -> Bool in
            guard reader?.isDetached.load(ordering: .relaxed) != true else { return false }
            let isKnown = state.change(note.position.segment) { segment in
                guard let slot = segment.slot(of: note.receiver) else { return false }
                if note.attempt == nil { segment.settle(slot, Int(note.position.length), note.position.share) }
                return true
            }
            guard isKnown == true else { return false }
            state.notes.append(note)
            guard state.notesDue == .never else { return false }
            state.notesDue = .now + Self.noteDelay
            return true
        }
        if wakes { state.signal() }
    }

    /// Converts a segment's notes to entries; adjacent settled records are merged into one entry.
    static func entries(_ notes: [SpoolNote], _ header: SpoolHeader) -> [SettledEntry] {
        var result: [SettledEntry] = []
        let sorted = notes.count == 1 ? notes : notes.sorted { ($0.receiver, $0.position.offset) < ($1.receiver, $1.position.offset) }
        for note in sorted {
            guard let slot = header.receivers.firstIndex(of: note.receiver) else { continue }
            let (start, end) = (note.position.offset, note.position.offset + note.position.length)
            if let attempt = note.attempt {
                result.append(SettledEntry(kind: .attempted, receiver: UInt16(slot), offset: start, attempt: attempt))
            } else if let last = result.last, last.kind == .settled, last.receiver == UInt16(slot), last.end == start {
                result[result.count - 1].end = end
            } else {
                result.append(SettledEntry(kind: .settled, receiver: UInt16(slot), offset: start, end: end))
            }
        }
        return result
    }
}

extension SpoolJournal {
    /// Writes the receivers' notes to the `.settled` files, one segment at a time.
    func write(_ notes: [SpoolNote]) {
        guard let first = notes.first?.position.segment else { return }
        // Usually all are of one segment, and need not be sorted by it.
        guard notes.contains(where: { $0.position.segment != first }) else { return write(notes, of: first) }
        for (number, group) in Dictionary(grouping: notes, by: \.position.segment) { write(group, of: number) }
    }

    private func write(_ notes: [SpoolNote], of number: UInt64) {
        // A segment that no receiver needs is removed as a whole, so its notes need not be written.
        let header = spool.state.withLock { state -> SpoolHeader? in
            guard let segment = state.segments[number] else { return nil }
            return segment.isSettled && number != state.active ? nil : segment.header
        }
        guard let header else { return }
        do throws(SystemError) {
            let grown = try append(Spool.entries(notes, header), header)
            spool.state.withLock { state in _ = state.change(number) { $0.settledSize += grown } }
        } catch {
            settledFile = nil
            keep(notes, error)
        }
    }

    private func append(_ entries: [SettledEntry], _ header: SpoolHeader) throws(SystemError) -> Int {
        let generation = spool.folder.directory.generation
        if settledFile?.segment != header.segment || generation != settledGeneration {
            // Closed first: no more than one is open at a time.
            settledFile = nil
            settledFile = try SettledFile(header, in: spool.folder)
            settledGeneration = generation
        }
        return try settledFile?.append(entries) ?? 0
    }

    /// The most notes that are kept while they cannot be written; a profile whose note is lost is delivered again after a restart.
    private static let mostKept = 100_000

    private func keep(_ notes: [SpoolNote], _ error: SystemError) {
        if !error.isLackOfDescriptors { spool.writeErrors.add() }
        if let count = noteWarnings.count(.now) {
            Log.warning("what is settled cannot be written to the spool; it is tried again", ["error": "\(error)", "count": "\(count)"])
        }
        spool.state.withLock { state in
            guard state.notes.count < Self.mostKept else { return }
            state.notes += notes
            state.notesDue = .now + Self.retryTime
        }
    }
}
