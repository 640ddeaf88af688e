/// One way in which a plugin has broken the contract of the plugin interface, which the gateway has survived.
package struct PluginBreach: Error, Sendable, Equatable {
    /// The raw values are labels of `gateway_plugin_breaches_total`.
    package enum Kind: String, CaseIterable, Sendable {
        /// `finish` for an operation that was finished before, or never begun.
        case unknownToken = "unknown_token"
        /// `finish` for an operation that was taken back, because the instance did not end.
        case lateFinish = "late_finish"
        /// An outcome that is NULL, or shorter than version 1.0's.
        case outcome
        /// An outcome with a status that does not exist.
        case status
        /// A metric that is not the plugin's, or that contradicts an earlier one.
        case metric
        /// `create` changed the working directory, the umask or the handling of signals.
        case processState = "process_state"
        /// A call or a delivery that takes longer than `delivery_timeout`.
        case overdue
        /// Operations that were still open after `abort`, or a call that did not return.
        case openAfterAbort = "open_after_abort"
    }

    package let kind: Kind
    /// A part of a sentence for the log.
    package let what: String

    package init(_ kind: Kind, _ what: String) { (self.kind, self.what) = (kind, what) }
}
