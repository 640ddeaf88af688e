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

    /// A file that the build made; the release build is not made by `swift test` itself.
    static func built(_ file: String, _ build: Build = .release) throws -> String {
        let path = "\(root)/.build/\(build.rawValue)/\(file)"
        guard FileManager.default.fileExists(atPath: path) else { throw Obstacle("\(path) is missing: run \"make test\"") }
        return path
    }

    static func text(of path: String) throws -> String { try String(contentsOfFile: path, encoding: .utf8) }
}
