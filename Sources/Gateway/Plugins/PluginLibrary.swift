import Glibc
import LinuxSystem
import PluginABI
import Synchronization

/// A plugin's shared object, checked and loaded; it stays loaded until the process ends.
@safe final class PluginLibrary: Sendable {
    /// The file it was loaded from, every link resolved.
    let path: String
    let name: String
    let version: String
    private let stamp: FileStamp?
    private static let loaded = Mutex<[String: PluginLibrary]>([:])
    /// The plugin's functions; valid until the process ends.
    nonisolated(unsafe) let table: UnsafePointer<gw_plugin>

    /// Why a file is not loaded; each case is a sentence that says what to do.
    enum LoadError: Error, CustomStringConvertible {
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
        case unknownFlags(String, UInt32)
        case missingFunction(String, String)

        var description: String {
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
            case .unknownFlags(let path, let flags):
                "\(path) sets flags 0x\(String(flags, radix: 16)) that this gateway does not know: use a newer gateway"
            }
        }
    }

    /// Finds, checks and loads the plugin that a config names; one that is loaded stays what it was, whatever its file is now.
    ///
    /// - Parameters:
    ///   - name: a plugin's name (`HTTPWriter` is `libHTTPWriter.so` in one of `folders`), or a path ending in `.so`.
    ///   - folders: searched in order.
    static func load(_ name: String, from folders: [String]) throws(LoadError) -> PluginLibrary {
        let path = try find(name, in: folders)
        if let library = loaded.withLock({ $0[path] }) { return library }
        // Not with the lock held: a constructor of the library may block.
        let library = try PluginLibrary(path)
        return loaded.withLock { loaded in
            let first = loaded[path] ?? library
            loaded[path] = first
            return first
        }
    }

    /// Finds and checks the file of the plugin that a config names, every link resolved; no code of it runs.
    static func find(_ name: String, in folders: [String]) throws(LoadError) -> String {
        let candidates = name.hasSuffix(".so") ? [name] : folders.map { "\($0)/lib\(name).so" }
        for path in candidates where unsafe access(path, F_OK) == 0 { return try FileTrust.check(path) }
        throw .notFound(name, searched: candidates)
    }

    /// Whether its file is another one than that which was loaded.
    var isOutdated: Bool { FileStamp(of: path) != stamp }

    private init(_ path: String) throws(LoadError) {
        self.path = path
        stamp = FileStamp(of: path)
        try Self.checkHeader(self.path)
        // Local, so that two plugins with equal type names stay apart; never unloaded, for Swift's runtime keeps
        // pointers into what it has seen.
        guard let handle = unsafe dlopen(self.path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE) else {
            throw .notLoadable(self.path, reason: unsafe dlerror().map { unsafe String(cString: $0) } ?? "no reason given")
        }
        // Constructors of the library have run.
        ignoreErrorSignals()
        guard let symbol = unsafe dlsym(handle, GW_PLUGIN_ENTRY) else { throw .noEntry(self.path) }
        let entry = unsafe unsafeBitCast(symbol, to: gw_plugin_entry.self)
        guard let table = unsafe entry(MemoryLayout<gw_host>.size) else { throw .declined(self.path) }
        let smallest = unsafe MemoryLayout<gw_plugin>.size
        guard unsafe table.pointee.size >= smallest else {
            throw .tableTooSmall(self.path, size: unsafe table.pointee.size, smallest: smallest)
        }
        guard unsafe table.pointee.flags == 0 else { throw .unknownFlags(self.path, unsafe table.pointee.flags) }
        try unsafe Self.checkFunctions(table, self.path)
        unsafe self.table = unsafe table
        name = unsafe table.pointee.name.text
        version = unsafe table.pointee.version.text
    }

    /// C lets a table leave functions out, though the header says that none is NULL.
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

    private static func checkHeader(_ path: String) throws(LoadError) {
        let bytes: [UInt8]
        do throws(SystemError) {
            bytes = try FileDescriptor.open(path, O_RDONLY).readAll(limit: maximumFile)
        } catch { throw .unreadable(error) }
        guard let header = ELFHeader(bytes), header.isSharedObject else { throw .notSharedObject(path) }
        guard header.isNative else { throw .otherArchitecture(path, machine: header.machine) }
        guard header.loadedEnd(bytes) <= bytes.count else { throw .cutShort(path) }
    }

    private static let maximumFile = 1 << 30
}
