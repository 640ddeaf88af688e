import LinuxSystem
import PluginABI
package import Profiles

/// One instance of a plugin; makes the calls of `gw_plugin` as its contract requires.
///
/// All calls but ``abort()`` come from the receiver's delivery thread and never overlap.
@safe package final class PluginInstance: Sendable {
    package let host: HostServices
    /// The plugin's own name and version.
    package let name: String
    package let version: String
    private nonisolated(unsafe) let plugin: UnsafePointer<gw_plugin>
    private nonisolated(unsafe) let instance: UnsafeMutableRawPointer

    /// The plugin's reason for refusing a config, one problem per line.
    package struct Refusal: Error {
        package let message: String

        package init(message: String) {
            self.message = message
        }
    }

    /// Creates an instance from a config in strict JSON.
    package init(_ library: PluginLibrary, config: String, host: HostServices) throws(Refusal) {
        self.host = host
        (name, version) = (library.name, library.version)
        unsafe plugin = unsafe library.table
        let own = ProcessState.own
        var text = [CChar](repeating: 0, count: 8192)
        var used = 0
        let made = unsafe text.withUnsafeMutableBufferPointer { room -> UnsafeMutableRawPointer? in
            guard let start = room.baseAddress else { return nil }
            var error = unsafe gw_error(text: start, capacity: room.count, count: 0)
            var config = config
            let plugin = unsafe library.table
            let table = unsafe UnsafePointer(host.table)
            let made = config.withUTF8 { config in
                unsafe plugin.pointee.create(table, gw_slice(bytes: config.baseAddress, count: config.count), &error)
            }
            // Language runtimes that the plugin contains may have changed signal handlers.
            ignoreErrorSignals()
            used = unsafe min(error.count, room.count)
            return unsafe made
        }
        if let change = own.restore() { host.events.pluginMisbehaved(PluginBreach(.processState, change)) }
        guard let made = unsafe made else {
            let message = String(decoding: text[..<used].map { UInt8(bitPattern: $0) }, as: UTF8.self)
            throw Refusal(message: message.isEmpty ? "the plugin refused without a reason" : message)
        }
        unsafe instance = unsafe made
    }

    /// Hands over one profile; the outcome comes through the host's `finish`, perhaps before this call returns.
    package func deliver(_ profile: ReceivedProfile, token: UInt, attempt: Int, progress: UInt64) {
        var delivery = unsafe gw_delivery(
            size: MemoryLayout<gw_delivery>.size, token: UnsafeMutableRawPointer(bitPattern: token),
            attempt: UInt32(clamping: attempt), progress: progress)
        unsafe plugin.pointee.deliver(instance, profile.view, &delivery)
    }

    package func flush(token: UInt) {
        unsafe plugin.pointee.flush(instance, UnsafeMutableRawPointer(bitPattern: token))
    }

    package func abort() { unsafe plugin.pointee.abort(instance) }

    /// Frees the instance; nothing may be called after this.
    package func destroy() {
        unsafe plugin.pointee.destroy(instance)
        host.ended()
    }
}
