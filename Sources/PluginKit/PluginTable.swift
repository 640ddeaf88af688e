import ConfigJSON
public import PluginABI
import Synchronization

/// The table of C functions that makes `type` a plugin; returns the same pointer on every call.
///
/// - Parameters:
///   - type: the receiver's class.
///   - hostSize: the size that the gateway passed to the entry. A gateway older than v1.0 gets NULL.
public func pluginTable<R: Receiver>(of type: R.Type, _ hostSize: Int) -> UnsafePointer<gw_plugin>? {
    guard hostSize >= GW_V1_0_HOST else { return nil }
    return unsafe table.withLock { table in
        if let table = unsafe table { return unsafe UnsafePointer(table.pointer) }
        let pointer = unsafe makeTable(type)
        unsafe table = unsafe Table(pointer: pointer, type: type)
        return unsafe UnsafePointer(pointer)
    }
}

/// The same for a plugin whose deliveries are finished when the call returns.
public func pluginTable<R: SynchronousReceiver>(of type: R.Type, _ hostSize: Int) -> UnsafePointer<gw_plugin>? {
    unsafe pluginTable(of: SynchronousCalls<R>.self, hostSize)
}

/// The library's table and type. A library has only one of each, because C functions have no context that could hold the type.
@unsafe private struct Table: @unchecked Sendable {
    let pointer: UnsafeMutablePointer<gw_plugin>
    let type: any Receiver.Type
}

private let table = unsafe Mutex<Table?>(nil)

/// The object behind the gateway's pointer to an instance.
private final class Instance: Sendable {
    let receiver: any Receiver
    let host: GatewayHost

    init(_ receiver: any Receiver, _ host: GatewayHost) {
        self.receiver = receiver
        self.host = host
    }

    static func at(_ pointer: UnsafeMutableRawPointer) -> Instance {
        unsafe Unmanaged<Instance>.fromOpaque(pointer).takeUnretainedValue()
    }
}

private func makeTable(_ type: any Receiver.Type) -> UnsafeMutablePointer<gw_plugin> {
    let pointer = UnsafeMutablePointer<gw_plugin>.allocate(capacity: 1)
    unsafe pointer.initialize(
        to: gw_plugin(
            size: MemoryLayout<gw_plugin>.size,
            flags: 0,
            name: permanentSlice(type.name),
            version: permanentSlice(type.version),
            create: { host, config, error in unsafe create(host, config, error) },
            deliver: { instance, profile, delivery in
                let instance = unsafe Instance.at(instance)
                let delivery = unsafe delivery.pointee
                unsafe instance.receiver.deliver(
                    Profile(view: profile),
                    Delivery(
                        instance.host.access, token: delivery.token, attempt: Int(delivery.attempt), progress: delivery.progress))
            },
            flush: { instance, token in
                let instance = unsafe Instance.at(instance)
                unsafe instance.receiver.flush(Delivery(instance.host.access, token: token))
            },
            abort: { instance in unsafe Instance.at(instance).receiver.abort() },
            destroy: { instance in
                let instance = unsafe Unmanaged<Instance>.fromOpaque(instance).takeRetainedValue()
                instance.receiver.close()
                instance.host.access.close()
            },
            start: { instance, error in
                do { try unsafe Instance.at(instance).receiver.start() } catch let problem {
                    unsafe write("\(problem)", to: &error.pointee)
                    return 1
                }
                return 0
            },
            drain: { instance in unsafe Instance.at(instance).receiver.drain() },
            probe: { instance, token in unsafe probe(Instance.at(instance), token) },
            config_schema: permanentSlice(type.configSchema)))
    if !(type is any Probing.Type) { unsafe pointer.pointee.probe = nil }
    return unsafe pointer
}

private func probe(_ instance: Instance, _ token: UnsafeMutableRawPointer?) {
    let probe = unsafe Delivery(instance.host.access, token: token)
    if let receiver = instance.receiver as? any Probing { receiver.probe(probe) }
}

private func permanentSlice(_ text: String) -> gw_slice {
    let bytes = UnsafeMutableBufferPointer<UInt8>.allocate(capacity: text.utf8.count)
    _ = unsafe bytes.initialize(from: text.utf8)
    return unsafe gw_slice(bytes: bytes.baseAddress, count: bytes.count)
}

private func create(
    _ host: UnsafePointer<gw_host>, _ config: gw_slice, _ error: UnsafeMutablePointer<gw_error>
) -> UnsafeMutableRawPointer? {
    guard let type = unsafe table.withLock({ unsafe $0?.type }) else { return nil }
    let problems = Problems()
    do {
        let text = unsafe Array(UnsafeBufferPointer(start: config.bytes, count: config.count))
        if let value = JSONParser.parse(text, dialect: .strict, problems: problems) {
            let host = unsafe GatewayHost(access: HostAccess(host))
            let object = ConfigObject(host.markingReferences(value), path: "", problems: problems)
            let receiver = try type.init(config: object, host: host)
            object.refuseUnknown()
            if problems.list.isEmpty {
                for warning in object.warnings.list { host.log(.warning, warning.description) }
                return unsafe Unmanaged.passRetained(Instance(receiver, host)).toOpaque()
            }
        }
    } catch {
        problems.add("", "\(error)", at: nil)
    }
    unsafe write(problems.list.map(\.description).joined(separator: "\n"), to: &error.pointee)
    return nil
}

private func write(_ message: String, to error: inout gw_error) {
    var text = message
    while unsafe text.utf8.count > error.capacity { text.removeLast() }
    for (index, byte) in text.utf8.enumerated() { unsafe error.text[index] = CChar(bitPattern: byte) }
    unsafe error.count = text.utf8.count
}
