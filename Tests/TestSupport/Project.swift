import Foundation
import Testing

/// Paths of the project and of its builds.
enum Project {
    /// A build of SwiftPM.
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

    /// The build with a sanitizer, which is tested instead of both others.
    private static let sanitized = ProcessInfo.processInfo.environment["GATEWAY_BUILD"]
    /// Whether a sanitizer is in the tested build, which is slower and uses more memory then.
    static let isSanitized = sanitized != nil
    /// The limit of each wait; no test asserts anything about time with it.
    static let patience: TimeInterval = isSanitized ? 180 : 60

    /// The folder of the release build, or of that with a sanitizer.
    static let build = folder(.release)
    static let gateway = "\(build)/gateway"

    private static func folder(_ build: Build) -> String { sanitized ?? "\(root)/.build/\(build.rawValue)" }

    /// A file of the build; `swift test` does not make the release build.
    static func built(_ file: String, _ build: Build = .release) throws -> String {
        let path = "\(folder(build))/\(file)"
        guard access(path, F_OK) == 0 else { throw Obstacle("\(path) is missing: run \"make test\"") }
        return path
    }

    /// The built program, with its plugins next to it.
    static func builtGateway() throws -> String {
        for plugin in ["HTTPWriter", "FileSink", "StdoutSink"] { _ = try built("lib\(plugin).so") }
        return try built("gateway")
    }

    static func text(of path: String) throws -> String { try String(contentsOfFile: path, encoding: .utf8) }
}
