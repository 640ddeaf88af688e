/// What a plugin says of itself, and what is known of its file.
package struct PluginIdentity: Equatable, Sendable {
    /// The plugin's own name and version.
    package let name: String
    package let version: String
    /// The version of the plugin interface that it was built for.
    package let interface: String
    /// The SHA-256 of its file, in lower-case hexadecimal.
    package let sha256: String
    package let later: LaterFunctions
    /// The JSON Schema of its config; empty where there is none.
    package let configSchema: String

    /// Which functions a plugin has that version 1.0 of the interface did not have.
    package struct LaterFunctions: Equatable, Sendable {
        package var start = false
        package var drain = false
        package var probe = false

        package init(start: Bool = false, drain: Bool = false, probe: Bool = false) {
            (self.start, self.drain, self.probe) = (start, drain, probe)
        }
    }
}
