import Foundation
import Testing

/// Where the project and what it built are.
enum Project {
    enum Build: String, CaseIterable, CustomTestStringConvertible {
        case debug, release
        var testDescription: String { rawValue }
    }

    static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().path
    static var headerFolder: String { "\(root)/Sources/PluginABI/include" }
    static var header: String { "\(headerFolder)/PluginABI.h" }
    static var pluginSources: String { "\(root)/Tests/PluginTests/Plugins" }
    static var servers: String { "\(root)/Tests/TestSupport/Servers" }

    /// The one build that is tested instead of both, when a sanitizer is in it.
    private static let sanitized = ProcessInfo.processInfo.environment["GATEWAY_BUILD"]
    /// True when a sanitizer is in what is tested: it is slower then, and its memory is the sanitizer's.
    static let isSanitized = sanitized != nil
    /// Bounds a wait that would never end; nothing is asserted about time.
    static let patience: TimeInterval = isSanitized ? 180 : 60

    /// Where the build is that users run, or the same with a sanitizer in it.
    static let build = folder(.release)
    static let gateway = "\(build)/gateway"

    private static func folder(_ build: Build) -> String { sanitized ?? "\(root)/.build/\(build.rawValue)" }

    /// A file that the build made; the release build is not made by `swift test` itself.
    static func built(_ file: String, _ build: Build = .release) throws -> String {
        let path = "\(folder(build))/\(file)"
        guard access(path, F_OK) == 0 else { throw Obstacle("\(path) is missing: run \"make test\"") }
        return path
    }

    /// The built program, with its plugins beside it.
    static func builtGateway() throws -> String {
        for plugin in ["HTTPWriter", "FileSink", "StdoutSink"] { _ = try built("lib\(plugin).so") }
        return try built("gateway")
    }

    static func text(of path: String) throws -> String { try String(contentsOfFile: path, encoding: .utf8) }
}
