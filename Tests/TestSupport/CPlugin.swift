import Foundation

/// Builds C plugins, which need only the plugin header.
enum CPlugin {
    static let compiler = ["gcc", "-std=c11", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-I", Project.headerFolder]

    /// Compiles `Plugins/<source>` into a shared object.
    ///
    /// - Parameters:
    ///   - flags: further arguments for the compiler, such as `-DENTRY_ANSWERS_NULL`.
    ///   - first: arguments before all others, such as a folder with another header.
    @discardableResult
    static func build(_ source: String, as path: String, _ flags: [String] = [], first: [String] = []) throws -> String {
        let before = [compiler[0]] + first + Array(compiler.dropFirst())
        let result = try ChildProcess.run(before + ["-pthread"] + flags + ["\(Project.pluginSources)/\(source)", "-o", path])
        guard result.status == 0 else { throw Obstacle("\(source) does not compile:\n\(result.err)") }
        return path
    }
}
