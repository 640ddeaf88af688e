import Glibc

/// The progress of a long command, on one line of the terminal that is overwritten; not shown without a terminal.
struct ProgressLine {
    private let total: Int
    private let isShown: Bool
    private var done = 0

    init(total: Int) {
        self.total = total
        isShown = total > 1 && isatty(STDERR_FILENO) == 1
    }

    /// Counts one more as done, and shows the count.
    mutating func step(failures: Int) {
        done += 1
        write("\(done)/\(total) sent" + (failures > 0 ? ", \(failures) failed" : ""))
    }

    /// Clears the line, so that a result can be printed there.
    func clear() { write("") }

    private func write(_ text: String) {
        guard isShown else { return }
        let bytes = Array("\r\u{1b}[K\(text)".utf8)
        _ = unsafe Glibc.write(STDERR_FILENO, bytes, bytes.count)
    }
}
