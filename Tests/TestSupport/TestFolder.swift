import Foundation
import Testing

/// The folder of one test, removed with its last reference.
final class TestFolder: Sendable {
    let path: String

    init() throws {
        var template = Array("/tmp/gateway-test-XXXXXX".utf8CString)
        path = try #require(mkdtemp(&template).map { String(cString: $0) })
        try #require(chmod(path, 0o755) == 0)
    }

    deinit { Self.remove(path) }

    /// Removes a folder, and the notes of killed gateways whose data directories were in it; see `CrashMemory`.
    static func remove(_ path: String) {
        for case let name as String in FileManager.default.enumerator(atPath: path) ?? .init() where name.hasSuffix("crash-id") {
            guard let id = try? String(contentsOfFile: "\(path)/\(name)", encoding: .utf8), id.count == 16 else { continue }
            for notes in (try? FileManager.default.contentsOfDirectory(atPath: "/dev/shm")) ?? [] where notes.hasSuffix("-\(id)") {
                try? FileManager.default.removeItem(atPath: "/dev/shm/\(notes)")
            }
        }
        try? FileManager.default.removeItem(atPath: path)
    }

    func path(_ name: String) -> String { "\(path)/\(name)" }

    /// Writes a file and returns its path.
    @discardableResult
    func write(_ name: String, _ text: String) throws -> String { try write(name, Array(text.utf8)) }

    @discardableResult
    func write(_ name: String, _ bytes: [UInt8]) throws -> String {
        try Data(bytes).write(to: URL(fileURLWithPath: path(name)))
        return path(name)
    }

    /// Writes a file with this mode, whatever the umask is, and returns its path.
    @discardableResult
    func file(_ name: String, _ text: String = "", mode: mode_t = 0o644) throws -> String {
        try write(name, text)
        try #require(chmod(path(name), mode) == 0)
        return path(name)
    }

    /// Creates a folder and its parents, and returns its path.
    func folder(_ name: String, mode: mode_t = 0o755) throws -> String {
        try FileManager.default.createDirectory(atPath: path(name), withIntermediateDirectories: true)
        try #require(chmod(path(name), mode) == 0)
        return path(name)
    }

    /// Creates a symbolic link and returns its path.
    func link(_ name: String, to target: String) throws -> String {
        try #require(symlink(target, path(name)) == 0)
        return path(name)
    }

    /// The files below a folder, as relative paths, sorted.
    static func files(below path: String) -> [String] {
        let names = FileManager.default.enumerator(atPath: path)?.compactMap { $0 as? String } ?? []
        return names.filter { name in
            var isFolder: ObjCBool = false
            return FileManager.default.fileExists(atPath: "\(path)/\(name)", isDirectory: &isFolder) && !isFolder.boolValue
        }.sorted()
    }

    static func bytes(of path: String) throws -> [UInt8] { [UInt8](try Data(contentsOf: URL(fileURLWithPath: path))) }
}
