import Foundation
import Glibc
import PluginABI

/// A plugin's shared object, loaded as the gateway loads it.
///
/// `@unchecked`: the table is constant and lives as long as the process.
final class LoadedPlugin: @unchecked Sendable {
    let entry: gw_plugin_entry
    let table: UnsafePointer<gw_plugin>

    init(_ path: String) throws {
        guard let handle = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE) else {
            throw Obstacle(dlerror().map { String(cString: $0) } ?? "dlopen fails")
        }
        guard let symbol = dlsym(handle, GW_PLUGIN_ENTRY) else { throw Obstacle("\(path) has no entry") }
        entry = unsafeBitCast(symbol, to: gw_plugin_entry.self)
        guard let table = entry(MemoryLayout<gw_host>.size) else { throw Obstacle("\(path) answers NULL") }
        self.table = table
    }

    /// Loads a plugin of the project from the release build.
    static func release(_ name: String) throws -> LoadedPlugin { try LoadedPlugin(Project.built("lib\(name).so")) }

    /// The text with which a plugin refused a config.
    struct Refusal: Error {
        let text: String
        var lines: [String] { text.split(separator: "\n").map(String.init) }
    }

    /// Creates an instance, or throws a ``Refusal``.
    func create(_ config: String, _ host: TestHost) throws -> LoadedInstance {
        var room = [CChar](repeating: 0, count: 8192)
        var used = 0
        let bytes = Array(config.utf8)
        let made = room.withUnsafeMutableBufferPointer { room -> UnsafeMutableRawPointer? in
            guard let start = room.baseAddress else { return nil }
            var error = gw_error(text: start, capacity: room.count, count: 0)
            defer { used = error.count }
            return bytes.withUnsafeBufferPointer { bytes in
                table.pointee.create(host.table, gw_slice(bytes: bytes.baseAddress, count: bytes.count), &error)
            }
        }
        guard let made else { throw Refusal(text: String(decoding: room.prefix(used).map { UInt8(bitPattern: $0) }, as: UTF8.self)) }
        return LoadedInstance(table, made, host)
    }

    /// The lines of the refusal of a config.
    func refusal(of config: String) throws -> [String] {
        do {
            _ = try create(config, TestHost())
        } catch let refusal as Refusal { return refusal.lines }
        throw Obstacle("the config was accepted: \(config)")
    }
}

/// One instance of a plugin, destroyed with its last reference; only one thread may call it at a time.
final class LoadedInstance: @unchecked Sendable {
    let host: TestHost
    private let plugin: UnsafePointer<gw_plugin>
    private let instance: UnsafeMutableRawPointer
    private let isDestroyed = WaitableValue(false)

    init(_ plugin: UnsafePointer<gw_plugin>, _ instance: UnsafeMutableRawPointer, _ host: TestHost) {
        (self.plugin, self.instance, self.host) = (plugin, instance, host)
    }

    deinit { destroy() }

    /// Begins a delivery.
    ///
    /// - Parameter isForbiddenAfter: whether an access to the profile after its finish ends the process.
    /// - Returns: the token of the delivery.
    func begin(_ profile: TestProfile, attempt: UInt32 = 1, progress: UInt64 = 0, isForbiddenAfter: Bool = false) -> UInt {
        let token = host.newToken()
        if isForbiddenAfter { host.said.update { $0.forbidden[token] = profile } }
        var delivery = gw_delivery(
            size: MemoryLayout<gw_delivery>.size, token: UnsafeMutableRawPointer(bitPattern: token), attempt: attempt, progress: progress)
        plugin.pointee.deliver(instance, profile.view, &delivery)
        return token
    }

    /// Delivers a profile and waits for the outcome.
    func deliver(_ profile: TestProfile, attempt: UInt32 = 1, progress: UInt64 = 0) throws -> TestHost.Finish {
        let token = begin(profile, attempt: attempt, progress: progress)
        return try withExtendedLifetime(profile) { try host.outcome(of: token) }
    }

    /// Begins a flush and returns its token.
    func flush() -> UInt {
        let token = host.newToken()
        plugin.pointee.flush(instance, UnsafeMutableRawPointer(bitPattern: token))
        return token
    }

    func abort() { plugin.pointee.abort(instance) }

    /// Destroys the instance, at most once.
    func destroy() {
        let isFirst = isDestroyed.update { isDestroyed in
            defer { isDestroyed = true }
            return !isDestroyed
        }
        if isFirst { plugin.pointee.destroy(instance) }
    }
}
