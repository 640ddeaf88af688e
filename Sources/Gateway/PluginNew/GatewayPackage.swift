import Glibc
import LinuxSystem

/// The Swift package that has PluginKit: the gateway's own.
enum GatewayPackage {
    private static let name = "profile-gateway"

    /// The closest folder above `folder` that holds the package; nil when there is none.
    static func folder(above folder: String) -> String? {
        var path = folder
        while !isHere(path) {
            let parent = OpenFolder.parent(of: path)
            guard parent != path else { return nil }
            path = parent
        }
        return path
    }

    /// The expression that a Package.swift has for a dependency on the package; nil for a path without it.
    static func dependency(on place: String) -> String? {
        if place.contains("://") || place.hasPrefix("git@") { return ".package(url: \(quoted(place)), branch: \"main\")" }
        let path = place.absolutePath
        return isHere(path) ? ".package(name: \(quoted(name)), path: \(quoted(path)))" : nil
    }

    private static func isHere(_ folder: String) -> Bool {
        guard let bytes = try? FileDescriptor.openFile("\(folder)/Package.swift", O_RDONLY).readAll(limit: 1 << 20) else { return false }
        return String(decoding: bytes, as: UTF8.self).contains("name: \"\(name)\"")
    }

    /// A text as a literal of Swift.
    private static func quoted(_ text: String) -> String {
        "\"" + text.replacing("\\", with: "\\\\").replacing("\"", with: "\\\"") + "\""
    }
}
