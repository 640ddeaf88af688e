import Foundation

/// Builds C plugins, which need only the plugin header.
enum CPlugin {
    static let compiler = ["gcc", "-std=c11", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-I", Project.headerFolder]

    /// Compiles `Plugins/<source>` into a shared object.
    ///
    /// - Parameter flags: further arguments for the compiler, such as `-DENTRY_ANSWERS_NULL`.
    @discardableResult
    static func build(_ source: String, as path: String, _ flags: [String] = []) throws -> String {
        let result = try ChildProcess.run(compiler + ["-pthread"] + flags + ["\(Project.pluginSources)/\(source)", "-o", path])
        guard result.status == 0 else { throw Obstacle("\(source) does not compile:\n\(result.err)") }
        return path
    }
}
