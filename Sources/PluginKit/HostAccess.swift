import PluginABI
import Synchronization

/// The way to the gateway's table of one instance, closed when the instance has ended.
///
/// A task or thread that outlives its instance reaches nothing afterwards. No call of the table calls back into the plugin, so the
/// lock that is held meanwhile is always given back.
@safe final class HostAccess: Sendable {
    private nonisolated(unsafe) let host: UnsafePointer<gw_host>
    private let isOpen = Mutex(true)

    init(_ host: UnsafePointer<gw_host>) { unsafe self.host = unsafe host }

    /// Passes the table to `body`; returns nil after ``close()``.
    @safe func use<R>(_ body: (UnsafePointer<gw_host>) -> R) -> R? { isOpen.withLock { unsafe $0 ? body(host) : nil } }

    /// Ends all use; when it returns, no thread is inside a call of the table.
    func close() { isOpen.withLock { $0 = false } }
}
