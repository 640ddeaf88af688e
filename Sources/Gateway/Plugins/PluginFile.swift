import Glibc
import LinuxSystem

/// A plugin as a config names it.
struct PluginName: Hashable, Sendable {
    /// `HTTPWriter`, which is `libHTTPWriter.so` in one of the plugin folders, or a path ending in `.so`.
    let name: String
    /// What the file must have, in lower-case hexadecimal; nil trusts those who may write it.
    var sha256: String?

    /// Finds the file, and checks who may write it where nothing else says what is in it; no code of it runs.
    func find(in folders: [String]) throws(PluginLibrary.LoadError) -> PluginFile {
        let candidates = name.hasSuffix(".so") ? [name] : folders.map { "\($0)/lib\(name).so" }
        for path in candidates where unsafe access(path, F_OK) == 0 {
            return PluginFile(path: sha256 == nil ? try FileTrust.check(path) : try Self.resolve(path), sha256: sha256)
        }
        throw .notFound(name, searched: candidates)
    }

    private static func resolve(_ path: String) throws(PluginLibrary.LoadError) -> String {
        guard let resolved = unsafe realpath(path, nil) else { throw .unreadable(SystemError("open \(path)")) }
        defer { unsafe free(resolved) }
        return unsafe String(cString: resolved)
    }
}

/// The file of a plugin.
struct PluginFile: Equatable, Sendable {
    /// Every link resolved.
    let path: String
    let sha256: String?

    /// What tells one library from another.
    enum Key: Hashable, Sendable {
        case path(String)
        /// The same, wherever it lies.
        case content(sha256: String)
    }

    var key: Key { sha256.map { .content(sha256: $0) } ?? .path(path) }
}
