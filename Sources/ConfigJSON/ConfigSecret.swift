import Glibc

extension ConfigSource {
    /// Reads a secret, such as a password or a token, that is valid in a header.
    ///
    /// White space at the end of a file is removed, because editors add it.
    ///
    /// - Throws: a problem that names the member and the file, but shows nothing of the secret.
    public func secret() throws(Problem) -> String {
        let bytes = try read()
        try refuseByteOrderMark(bytes)
        guard var secret = String(validating: bytes, as: UTF8.self)?.unicodeScalars else { throw problem("\(subject)is not valid UTF-8") }
        if isFile { while secret.last?.properties.isWhitespace == true { secret.removeLast() } }
        if let objection = objection(to: secret) { throw problem(subject + objection) }
        return String(secret)
    }

    private func objection(to secret: String.UnicodeScalarView) -> String? {
        if secret.isEmpty { return "is empty" }
        if secret.contains("\0") { return "holds a NUL, a control character" }
        if isFile, secret.contains(where: { $0 == "\n" || $0 == "\r" }) { return "has more than one line" }
        if secret.contains(where: { $0.value < 0x20 || $0.value == 0x7F }) { return "holds a control character" }
        if secret.first?.properties.isWhitespace == true { return "begins with white space" }
        return secret.last?.properties.isWhitespace == true ? "ends with white space" : nil
    }

    /// Refuses a byte order mark, which some editors write and which would be read as a part of the text.
    public func refuseByteOrderMark(_ bytes: [UInt8]) throws(Problem) {
        let marks: [[UInt8]] = [[0xEF, 0xBB, 0xBF], [0xFF, 0xFE], [0xFE, 0xFF]]
        guard marks.contains(where: bytes.starts) else { return }
        throw problem("\(subject)begins with a byte order mark; save it as UTF-8 without one")
    }

    private var isFile: Bool { if case .file = content { true } else { false } }

    /// The beginning of a sentence about the text: the file's name, or nothing.
    private var subject: String { if case .file(let file) = content { "\(file) " } else { "" } }

    /// The file's mode if users other than the owner and the group have any access; else nil.
    fileprivate var modeForOthers: (file: String, mode: mode_t)? {
        var status = stat()
        guard case .file(let file) = content, unsafe stat(file, &status) == 0, status.st_mode & 0o007 != 0,
            status.st_mode & S_IFMT == S_IFREG
        else { return nil }
        return (file, status.st_mode & 0o7777)
    }
}

extension ConfigObject {
    /// Warns of a file with a secret to which everybody on the machine has access.
    public func warnOfMode(_ source: ConfigSource?) {
        guard let source, let (file, mode) = source.modeForOthers else { return }
        warnings.add(source.path, "\(file) holds a secret and is open to others (mode \(String(mode, radix: 8)))", at: source.position)
    }

    /// The source of a secret; an unusable secret is reported as a problem.
    public func secret(file: String, text: String) -> ConfigSource? {
        let source = source(file: file, text: text)
        guard let source else { return nil }
        do throws(Problem) { _ = try source.secret() } catch { problems.add(error.path, error.message, at: error.position) }
        warnOfMode(source)
        return source
    }
}
