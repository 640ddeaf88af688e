import ConfigJSON
import Glibc
import LinuxSystem

/// A text that a config holds, or the file that does; and where in the config that is said, for errors about the text.
struct ConfigSource: Equatable, Sendable {
    enum Content: Equatable, Sendable {
        case file(String)
        case text(String)
    }

    let content: Content
    /// The member's path: `receive_http.default.tls.cert_file`.
    let path: String
    let position: TextPosition?

    /// The most that is read of a file: certificates and lists of users are far smaller.
    static let maximumSize = 4 << 20

    /// The text, read anew when it is in a file.
    func read() throws(Problem) -> [UInt8] {
        switch content {
        case .text(let text): return Array(text.utf8)
        case .file(let file):
            do throws(SystemError) {
                // A FIFO in the file's place must not stop the gateway.
                return try FileDescriptor.open(file, O_RDONLY | O_NONBLOCK).readAll(limit: Self.maximumSize)
            } catch { throw problem("cannot be read: \(error)") }
        }
    }

    /// The state of the file, to see whether it was changed; nil for a text in the config.
    var stamp: FileStamp? {
        if case .file(let file) = content { FileStamp(of: file) } else { nil }
    }

    func problem(_ message: String) -> Problem { Problem(position: position, path: path, message: message) }
}

extension ConfigSource {
    /// The lines that say something, with their numbers.
    func lines() throws(Problem) -> [(number: Int, text: String)] {
        var lines: [(Int, String)] = []
        // By bytes: to Swift, CR LF is one character and not the end of a line.
        for (index, bytes) in try read().split(separator: 10, omittingEmptySubsequences: false).enumerated() {
            guard let line = String(validating: bytes.last == 13 ? bytes.dropLast() : bytes, as: UTF8.self) else {
                throw problem("line \(index + 1): is not valid UTF-8")
            }
            if !line.isEmpty, !line.hasPrefix("#") { lines.append((index + 1, line)) }
        }
        return lines
    }
}

/// All that is wrong with the files that one part of a config names.
struct FileProblems: Error, CustomStringConvertible {
    private(set) var list: [Problem] = []

    var description: String { list.map(\.description).joined(separator: "; ") }

    /// Takes a step, and notes why it fails; answers what came of it.
    mutating func collect<T>(_ step: () throws(Problem) -> T?) -> T? {
        do throws(Problem) { return try step() } catch {
            list.append(error)
            return nil
        }
    }

    mutating func collect<T>(all part: () throws(FileProblems) -> T?) -> T? {
        do throws(FileProblems) { return try part() } catch {
            list += error.list
            return nil
        }
    }

    /// Throws what was noted, if anything was.
    func check() throws(FileProblems) { if !list.isEmpty { throw self } }
}

extension ConfigObject {
    /// The source of a member that names a file.
    func file(_ name: String) -> ConfigSource? {
        string(name).map { ConfigSource(content: .file($0), path: path(name), position: value(name)?.position) }
    }

    /// The source that `file` names or `text` holds; both are a problem.
    func source(file: String, text: String) -> ConfigSource? {
        let inFile = self.file(file)
        let inText = string(text).map { ConfigSource(content: .text($0), path: path(text), position: value(text)?.position) }
        if inFile != nil, inText != nil { refuse(text, "is given beside \(file); one of them is meant") }
        return inFile ?? inText
    }
}
