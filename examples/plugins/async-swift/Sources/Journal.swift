import Dispatch

/// A file to which lines are appended in batches: a batch is written when it is full, or when its first line has waited long enough.
actor Journal {
    private let batch: Int
    private let patience: Duration
    private let file: AppendedFile
    private var waiting: [(line: String, written: CheckedContinuation<Void, any Error>)] = []
    private var timer: Task<Void, Never>?
    private var isDraining = false

    /// A sync blocks, which no task may do: all tasks of the process share a few threads. A queue has a thread of its own.
    private let disk = DispatchQueue(label: "example.journal")

    init(path: String, batch: Int, patience: Duration) {
        file = AppendedFile(path: path)
        (self.batch, self.patience) = (batch, patience)
    }

    /// Returns when the line is on the disk.
    ///
    /// A cancelled call still waits: the line may be written already, and the gateway has gone on without the outcome.
    func append(_ line: String) async throws {
        try await withCheckedThrowingContinuation { written in
            waiting.append((line, written))
            if waiting.count >= batch || isDraining { write() } else if timer == nil { startTimer() }
        }
    }

    /// Writes what waits, and each further line at once.
    func drain() {
        isDraining = true
        write()
    }

    private func startTimer() {
        timer = Task {
            try? await Task.sleep(for: patience)
            // A full batch was faster.
            if !Task.isCancelled { write() }
        }
    }

    private func write() {
        timer?.cancel()
        timer = nil
        let lines = waiting
        waiting = []
        if lines.isEmpty { return }
        disk.async { [file] in
            let result = Result { try file.append(lines.map(\.line).joined()) }
            for (_, written) in lines { written.resume(with: result) }
        }
    }
}
