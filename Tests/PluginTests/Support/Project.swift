import Foundation
import Testing

/// Where the project and what it built are.
enum Project {
    enum Build: String, CaseIterable, CustomTestStringConvertible {
        case debug, release
        var testDescription: String { rawValue }
    }

    static let root: String = {
        var path = #filePath
        for _ in 0..<4 { path = (path as NSString).deletingLastPathComponent }
        return path
    }()

    static var headerFolder: String { "\(root)/Sources/PluginABI/include" }
    static var header: String { "\(headerFolder)/PluginABI.h" }
    static var pluginSources: String { "\(root)/Tests/PluginTests/Plugins" }

    /// The one build that is tested instead of both, when a sanitizer is in it.
    private static let sanitized = ProcessInfo.processInfo.environment["GATEWAY_BUILD"]
    /// How long something may take that comes at once when all is well; a sanitizer makes everything slower.
    static let patience: TimeInterval = sanitized == nil ? 30 : 120

    /// A file that the build made; the release build is not made by `swift test` itself.
    static func built(_ file: String, _ build: Build = .release) throws -> String {
        let path = "\(sanitized ?? "\(root)/.build/\(build.rawValue)")/\(file)"
        guard FileManager.default.fileExists(atPath: path) else { throw Obstacle("\(path) is missing: run \"make test\"") }
        return path
    }

    static func text(of path: String) throws -> String { try String(contentsOfFile: path, encoding: .utf8) }
}
