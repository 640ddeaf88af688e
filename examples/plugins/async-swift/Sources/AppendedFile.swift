import Glibc

/// A file that takes text at its end.
struct AppendedFile {
    let path: String

    struct Failure: Error, CustomStringConvertible {
        let description: String

        init(_ call: String) { description = "\(call): \(String(cString: strerror(errno)))" }
    }

    /// Returns when the text is on the disk. After an error a part of it may be.
    func append(_ text: String) throws {
        guard let file = fopen(path, "ae") else { throw Failure("open") }
        defer { fclose(file) }
        guard fputs(text, file) >= 0, fflush(file) == 0 else { throw Failure("write") }
        // A terminal or a pipe cannot be synced, and need not be.
        guard fdatasync(fileno(file)) == 0 || errno == EINVAL else { throw Failure("sync") }
    }
}
