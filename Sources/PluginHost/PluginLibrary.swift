import Glibc
package import LinuxSystem
import PluginABI
import Synchronization
import Telemetry

/// A plugin's shared object, checked and loaded; it stays loaded until the process ends.
@safe package final class PluginLibrary: Sendable {
    /// The file that it was loaded from.
    package let file: PluginFile
    package var path: String { file.path }
    package let name: String
    package let version: String
    private let image: PluginImage
    private static let loaded = Mutex<[PluginFile.Key: PluginLibrary]>([:])
    /// The plugin's functions; valid until the process ends.
    nonisolated(unsafe) let table: UnsafePointer<gw_plugin>
    let later: Later

    /// The functions that version 1.0 did not have; nil where the plugin has none.
    @safe struct Later: Sendable {
        let start: (@convention(c) @Sendable (UnsafeMutableRawPointer, UnsafeMutablePointer<gw_error>) -> Int32)?
        let drain: (@convention(c) @Sendable (UnsafeMutableRawPointer) -> Void)?
        let probe: (@convention(c) @Sendable (UnsafeMutableRawPointer, UnsafeMutableRawPointer?) -> Void)?
        /// The JSON Schema of the config; empty where there is none.
        let configSchema: String

        /// The version of the interface that has what the table has.
        let interface: String

        init(_ table: UnsafePointer<gw_plugin>) {
            let size = unsafe table.pointee.size
            let has = { (offset: Int?) in offset.map { size >= $0 + MemoryLayout<UInt>.size } ?? false }
            unsafe interface = has(MemoryLayout<gw_plugin>.offset(of: \.drain)) ? "1.1" : "1.0"
            unsafe start = has(MemoryLayout<gw_plugin>.offset(of: \.start)) ? table.pointee.start : nil
            unsafe drain = has(MemoryLayout<gw_plugin>.offset(of: \.drain)) ? table.pointee.drain : nil
            unsafe probe = has(MemoryLayout<gw_plugin>.offset(of: \.probe)) ? table.pointee.probe : nil
            // A slice is two words.
            let schemaEnd = unsafe MemoryLayout<gw_plugin>.offset(of: \.config_schema).map { $0 + MemoryLayout<UInt>.size }
            unsafe configSchema = has(schemaEnd) ? table.pointee.config_schema.text(upTo: Self.longestSchema) : ""
        }

        /// The most bytes of a schema; the rest is cut off.
        private static let longestSchema = 256 << 10

        var functions: PluginIdentity.LaterFunctions {
            unsafe PluginIdentity.LaterFunctions(start: start != nil, drain: drain != nil, probe: probe != nil)
        }
    }

    /// Why a file is not loaded; each case has a sentence that says what to do.
    package enum LoadError: Error, CustomStringConvertible {
        case notFound(String, searched: [String])
        case unreadable(SystemError)
        case untrusted(path: String, why: String)
        case notSharedObject(String)
        case otherArchitecture(String, machine: UInt16)
        case cutShort(String)
        case notLoadable(String, reason: String)
        case noEntry(String)
        case declined(String)
        case tableTooSmall(String, size: Int, smallest: Int)
        /// The plugin's name or version is empty or has characters that cannot be shown.
        case badName(String, what: String, String)
        case unknownFlags(String, UInt32)
        case missingFunction(String, String)
        case changed(String)
        case otherContent(String, sha256: String)
        case dependency(String, String, String)
        case besideCopy(String)

        package var description: String {
            switch self {
            case .notFound(let name, let searched):
                "no plugin \(quotedForPeople(name)): looked for \(searched.joined(separator: ", ")); name a folder that has it in plugin_dirs, or give a path ending in .so"
            case .unreadable(let error): "cannot read the plugin: \(error)"
            case .untrusted(let path, let why):
                "\(path) \(why): it could be replaced by somebody else; make it and its folders belong to root or the gateway's user and not writable by others (chmod go-w)"
            case .notSharedObject(let path): "\(path) is not a shared object (ELF); build the plugin with -shared"
            case .otherArchitecture(let path, let machine):
                "\(path) is built for another machine (ELF machine \(machine), this one is \(ELFHeader.native.machine)); build the plugin for this one"
            case .cutShort(let path): "\(path) ends before its content does: copy or build it again"
            case .notLoadable(let path, let reason): "\(path) cannot be loaded: \(reason)"
            case .noEntry(let path):
                "\(path) has no symbol \(GW_PLUGIN_ENTRY): export the plugin's entry (GW_EXPORT in C, a public @c function in Swift)"
            case .declined(let path): "\(path) declines this gateway (its entry answered NULL): use a plugin built for this version"
            case .tableTooSmall(let path, let size, let smallest):
                "\(path) has a plugin table of \(size) bytes, smaller than version 1.0's \(smallest): set gw_plugin.size to sizeof(gw_plugin)"
            case .missingFunction(let path, let name): "\(path) has no function \(name) in its plugin table: set every one"
            case .changed(let path): "\(path) was changed while it was loaded: try again"
            case .otherContent(let path, let found): "\(path) has sha256 \(found), and the config names another one"
            case .dependency(let path, let name, let reason): "\(path) brings in \(name) by its RUNPATH or RPATH: \(reason)"
            case .besideCopy(let path):
                "\(path) lies beside the plugin, and a plugin with a sha256 is loaded from a copy, which has nothing beside it: link it statically, or install it for the system"
            case .badName(let path, let what, let text):
                "\(path) has the \(what) \(quotedForPeople(text)): set 1 to \(PluginLibrary.longestName) printable ASCII characters, without space, slash and quote"
            case .unknownFlags(let path, let flags):
                "\(path) sets flags 0x\(String(flags, radix: 16)) that this gateway does not know: use a newer gateway"
            }
        }
    }

    /// Finds, checks and loads the plugin that a config names; a library that is already loaded is returned, even if its file has
    /// changed.
    ///
    /// - Parameter folders: searched in order.
    package static func load(_ plugin: PluginName, from folders: [String]) throws(LoadError) -> PluginLibrary {
        let file = try plugin.find(in: folders)
        if let library = loaded.withLock({ $0[file.key] }) { return library }
        // Loading happens without the lock, because a constructor of the library may block.
        let library = try PluginLibrary(file)
        return loaded.withLock { loaded in
            let first = loaded[file.key] ?? library
            loaded[file.key] = first
            return first
        }
    }

    package var identity: PluginIdentity {
        PluginIdentity(
            name: name, version: version, interface: later.interface, sha256: image.sha256, later: later.functions,
            configSchema: later.configSchema)
    }

    /// An address in the library's memory.
    var codeAddress: UnsafeRawPointer { unsafe UnsafeRawPointer(table) }

    /// Whether the plugin's file has changed since it was loaded; never true for a plugin with a pinned SHA-256.
    package var isOutdated: Bool { image.isOutdated }

    private init(_ file: PluginFile) throws(LoadError) {
        self.file = file
        let path = file.path
        image = try PluginImage(file)
        let table = unsafe image.table
        let smallest = GW_V1_0_PLUGIN
        guard unsafe table.pointee.size >= smallest else {
            throw .tableTooSmall(path, size: unsafe table.pointee.size, smallest: smallest)
        }
        guard unsafe table.pointee.flags == 0 else { throw .unknownFlags(path, unsafe table.pointee.flags) }
        try unsafe Self.checkFunctions(table, path)
        unsafe self.table = unsafe table
        unsafe later = Later(table)
        name = unsafe table.pointee.name.text
        version = unsafe table.pointee.version.text
        for (what, text) in [("name", name), ("version", version)] where !Self.isName(text) {
            throw .badName(path, what: what, text)
        }
    }

    /// The most bytes of a plugin's name or version.
    private static let longestName = 64

    /// Whether a text can be a plugin's name or version: it stands in logs, metrics and paths.
    private static func isName(_ text: String) -> Bool {
        1...longestName ~= text.utf8.count
            && text.utf8.allSatisfy { 0x21...0x7E ~= $0 && $0 != UInt8(ascii: "/") && $0 != UInt8(ascii: "\"") }
    }

    /// Checks that no function pointer in the table is NULL, which the header forbids but C allows.
    private static func checkFunctions(_ table: UnsafePointer<gw_plugin>, _ path: String) throws(LoadError) {
        let functions: [(String, Int?)] = unsafe [
            ("create", MemoryLayout<gw_plugin>.offset(of: \.create)), ("deliver", MemoryLayout<gw_plugin>.offset(of: \.deliver)),
            ("flush", MemoryLayout<gw_plugin>.offset(of: \.flush)), ("abort", MemoryLayout<gw_plugin>.offset(of: \.abort)),
            ("destroy", MemoryLayout<gw_plugin>.offset(of: \.destroy)),
        ]
        for (name, offset) in functions {
            guard let offset, unsafe UnsafeRawPointer(table).load(fromByteOffset: offset, as: UInt.self) != 0 else {
                throw .missingFunction(path, name)
            }
        }
    }

    /// The largest shared object, in bytes.
    static let maximumFile = 1 << 30
}
