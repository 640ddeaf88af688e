import ConfigJSON
import Glibc
import LinuxSystem
import PushWire
import Telemetry

/// The headers that a command sends, from the command line or from files, which `ps` and a shell's history do not show.
extension Arguments {
    static let headerOptions: Set<String> = ["--header", "--header-file", "--token-file"]
    private static let largestFile = 1 << 20

    /// The headers from each `--header "Name: value"`, the lines of each `--header-file`, and the `--token-file`.
    func headers() throws(UsageError) -> [(name: String, value: String)] {
        let headers = try unchecked()
        do throws(WrittenHead.Refusal) { for header in headers { try WrittenHead.check(header) } } catch { throw UsageError(error.reason) }
        if has("--token-file"), headers.count(where: { $0.name.lowercased() == "authorization" }) > 1 {
            throw UsageError("--token-file is given beside an Authorization header; one of them is meant")
        }
        return headers
    }

    private func unchecked() throws(UsageError) -> [(name: String, value: String)] {
        var headers: [(name: String, value: String)] = []
        for text in values("--header") {
            // The message leaves the text out, because it may be a secret.
            guard let header = Self.header(text) else { throw UsageError("--header needs \"Name: value\", and one has no colon") }
            headers.append(header)
        }
        do throws(Problem) {
            for file in values("--header-file") { headers += try Self.lines(of: file) }
            guard let file = value("--token-file") else { return headers }
            headers.append(("Authorization", "Bearer \(try Self.token(in: file))"))
        } catch { throw UsageError("\(error)") }
        return headers
    }

    private static func header(_ text: String) -> (name: String, value: String)? {
        guard let colon = text.firstIndex(of: ":") else { return nil }
        return (String(text[..<colon]), String(text[text.index(after: colon)...].drop { $0 == " " }))
    }

    /// As in files of a config, empty lines and lines that begin with `#` are ignored.
    private static func lines(of file: String) throws(Problem) -> [(name: String, value: String)] {
        let source = try source(of: file, "--header-file")
        return try source.lines().map { line throws(Problem) in
            // The message leaves the line out, because it may be a secret.
            guard let header = header(line.text) else { throw source.problem("line \(line.number): is no \"Name: value\"") }
            return header
        }
    }

    private static func token(in file: String) throws(Problem) -> String {
        let source = try source(of: file, "--token-file")
        guard case .text(var text) = source.content else { return try source.secret() }
        while text.unicodeScalars.last?.properties.isWhitespace == true { text.unicodeScalars.removeLast() }
        return try ConfigSource(content: .text(text), path: source.path, position: nil).secret()
    }

    /// Reads a file's text; unlike a config's file, it may be a pipe, which is waited for.
    private static func source(of file: String, _ option: String) throws(Problem) -> ConfigSource {
        let path = "\(option) \(quotedForPeople(file))"
        func problem(_ message: String) -> Problem { Problem(position: nil, path: path, message: message) }
        do throws(SystemError) {
            let bytes = try FileDescriptor.open(file, O_RDONLY).readAll(limit: largestFile)
            guard let text = String(validating: bytes, as: UTF8.self) else { throw SystemError("read", code: EILSEQ) }
            return ConfigSource(content: .text(text), path: path, position: nil)
        } catch { throw problem(error.code == EILSEQ ? "is not valid UTF-8" : "cannot be read: \(error)") }
    }
}
