package import LinuxSystem

/// How a receiver's plugin runs in a process of its own.
package struct ProcessIsolation: Equatable, Sendable {
    /// The most memory of its own that the process may have, in bytes; nil for no bound.
    package var memory: Int?
    /// The most descriptors that the process may have.
    package var files = 1024
    /// The user that the process runs as; nil for the gateway's own.
    package var user: SystemUser?
    /// Whether it has a lower priority than the gateway, so that a process that takes all processors, or is started again and again,
    /// hardly delays the gateway. A command that waits for the process does not want that.
    package var hasLowPriority = false

    /// How long `destroy` and the end of the process after it may take, before it is killed.
    package static let destroyTime = Duration.seconds(1)
    /// How long the system may take to end a process that is killed, before it is no longer waited for.
    package static let killTime = Duration.milliseconds(500)

    package init() {}
}

/// How the process of a plugin has ended, without having been asked to.
package struct PluginEnd: Error, Equatable, Sendable {
    /// A sentence without its full stop: `it was ended by SIGSEGV`.
    package let how: String
    /// The call into the plugin that had not returned; nil for none.
    package let call: CallRecord.Call?
    /// The sequence of that call's profile; 0 for none.
    package let sequence: UInt64
    /// How long the plugin's instance existed.
    package let age: Duration

    package init(how: String, call: CallRecord.Call? = nil, sequence: UInt64 = 0, age: Duration = .zero) {
        (self.how, self.call, self.sequence, self.age) = (how, call, sequence, age)
    }
}
