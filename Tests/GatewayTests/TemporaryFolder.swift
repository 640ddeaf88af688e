import Foundation
import Testing

/// A folder of this test's own, gone with it.
struct TemporaryFolder: ~Copyable {
    let path: String

    init() throws { path = try Self.make() }

    private static func make() throws -> String {
        var template = Array("/tmp/gateway-test-XXXXXX".utf8CString)
        let path = try #require(mkdtemp(&template).map { String(cString: $0) })
        try #require(chmod(path, 0o755) == 0)
        return path
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    /// Makes a folder and answers its path.
    func folder(_ name: String, mode: mode_t = 0o755) throws -> String {
        try #require(mkdir("\(path)/\(name)", 0o700) == 0)
        try #require(chmod("\(path)/\(name)", mode) == 0)
        return "\(path)/\(name)"
    }

    /// Makes a file and answers its path.
    func file(_ name: String, _ text: String = "", mode: mode_t = 0o644) throws -> String {
        try Data(text.utf8).write(to: URL(fileURLWithPath: "\(path)/\(name)"))
        try #require(chmod("\(path)/\(name)", mode) == 0)
        return "\(path)/\(name)"
    }

    /// Makes a symbolic link and answers its path.
    func link(_ name: String, to target: String) throws -> String {
        try #require(symlink(target, "\(path)/\(name)") == 0)
        return "\(path)/\(name)"
    }
}
