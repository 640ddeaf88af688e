import Glibc
import LinuxSystem

/// A plugin as the config names it.
package struct PluginName: Hashable, Sendable {
    /// Either a name such as `HTTPWriter`, for `libHTTPWriter.so` in one of the plugin folders, or a path ending in `.so`.
    package let name: String
    /// The expected SHA-256 of the file, in lower-case hexadecimal; nil trusts everybody who may write the file.
    var sha256: String?

    package init(name: String, sha256: String? = nil) {
        (self.name, self.sha256) = (name, sha256)
    }

    /// Finds the file and, without an expected SHA-256, checks who may write it; runs no code of it.
    package func find(in folders: [String]) throws(PluginLibrary.LoadError) -> PluginFile {
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
package struct PluginFile: Equatable, Sendable {
    /// The path with every link resolved.
    package let path: String
    package let sha256: String?

    /// The identity of a library.
    package enum Key: Hashable, Sendable {
        case path(String)
        /// The same content is the same library, at whatever path.
        case content(sha256: String)
    }

    package var key: Key { sha256.map { .content(sha256: $0) } ?? .path(path) }

    /// The names that the file exports, and those of them that are one for the whole process, whatever the loader is told; nil when
    /// they cannot be read.
    package var symbols: (exported: [String], unique: [String])? {
        guard let bytes = try? FileDescriptor.openFile(path, O_RDONLY).readAll(limit: PluginLibrary.maximumFile) else { return nil }
        return ELFSymbols(bytes).map { ($0.exported, $0.unique) }
    }
}
