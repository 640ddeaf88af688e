import Glibc
public import LinuxSystem

/// A text in the config, or the file that the config names for it; with its place in the config, for error messages.
public struct ConfigSource: Equatable, Sendable {
    /// The text itself, or the path of the file that holds it.
    public enum Content: Equatable, Sendable {
        case file(String)
        case text(String)
    }

    /// The text, or the file to read it from.
    public let content: Content
    /// The member's path: `receive_http.default.tls.cert_file`.
    public let path: String
    /// The position of the member's value in the config, for error messages; nil when there is none.
    public let position: TextPosition?

    /// Makes a source from a text or a file's path and the place of its member in the config; reads nothing.
    public init(content: Content, path: String, position: TextPosition?) {
        (self.content, self.path, self.position) = (content, path, position)
    }

    /// The most bytes read from a file; certificates and lists of users are far smaller.
    public static let maximumSize = 4 << 20

    /// The text; a file is read again each time.
    public func read() throws(Problem) -> [UInt8] {
        switch content {
        case .text(let text): return Array(text.utf8)
        case .file(let file):
            do throws(SystemError) {
                // Opening a FIFO must not block the gateway.
                return try FileDescriptor.open(file, O_RDONLY | O_NONBLOCK).readAll(limit: Self.maximumSize)
            } catch { throw problem("cannot be read: \(error)") }
        }
    }

    /// The state of the file, to detect changes; nil for a text in the config.
    public var stamp: FileStamp? {
        if case .file(let file) = content { FileStamp(of: file) } else { nil }
    }

    /// A problem with the text.
    public func problem(_ message: String) -> Problem { Problem(position: position, path: path, message: message) }
}

extension ConfigSource {
    /// The lines with content, with their numbers; empty lines and lines that begin with `#` are left out.
    public func lines() throws(Problem) -> [(number: Int, text: String)] {
        var lines: [(Int, String)] = []
        // Split by bytes, because in Swift CR LF is one character and would not be split.
        let all = try read()
        try refuseByteOrderMark(all)
        for (index, bytes) in all.split(separator: 10, omittingEmptySubsequences: false).enumerated() {
            guard let line = String(validating: bytes.last == 13 ? bytes.dropLast() : bytes, as: UTF8.self) else {
                throw problem("line \(index + 1): is not valid UTF-8")
            }
            if line.isEmpty || line.hasPrefix("#") { continue }
            if line.unicodeScalars.first?.properties.isWhitespace == true { throw problem("line \(index + 1): begins with white space") }
            if line.utf8.contains(where: { $0 < 0x20 || $0 == 0x7F }) { throw problem("line \(index + 1): holds a control character") }
            lines.append((index + 1, line))
        }
        return lines
    }
}

extension ConfigObject {
    /// The source of a member that names a file.
    public func file(_ name: String) -> ConfigSource? {
        string(name).map { ConfigSource(content: .file($0), path: path(name), position: value(name)?.position) }
    }

    /// The source that `file` names or `text` contains; giving both is a problem.
    public func source(file: String, text: String) -> ConfigSource? {
        let inFile = self.file(file)
        let inText = string(text).map { ConfigSource(content: .text($0), path: path(text), position: value(text)?.position) }
        if inFile != nil, inText != nil { refuse(text, "is given beside \(file); one of them is meant") }
        return inFile ?? inText
    }
}
