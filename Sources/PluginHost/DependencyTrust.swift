import Glibc
import LinuxSystem

/// Checks that only root and the gateway's user can change the libraries that a plugin loads from its own folders (RUNPATH, RPATH).
///
/// Libraries that are already loaded in the process, or come with the gateway, are not searched for. Libraries not found in those
/// folders come from the system.
struct DependencyTrust {
    /// The plugin's path if it is loaded from a sealed copy, which has no folder for `$ORIGIN`; its dependencies are loaded by
    /// their own paths.
    private let copied: String?
    /// The paths checked so far.
    private var seen: Set<String> = []

    init(copied: String?) { self.copied = copied }

    /// Checks the dependencies of a shared object, recursively.
    ///
    /// - Parameters:
    ///   - path: the path of the object.
    ///   - inherited: the RPATH folders of the objects that depend on it.
    mutating func check(_ bytes: [UInt8], _ path: String, inherited: [String] = []) throws(PluginLibrary.LoadError) {
        guard seen.insert(path).inserted else { return }
        guard let found = ELFDependencies(bytes) else { throw .cutShort(path) }
        // The loader looks into the object's own RPATH first, then into that of the object that needs it, and so on.
        var below: [String] = []
        for folder in found.inheritedPath { below.append(try expand(folder, path)) }
        below += inherited
        var folders = found.runPath.isEmpty ? below : []
        for folder in found.runPath { folders.append(try expand(folder, path)) }
        for name in found.needed where !Self.isGiven(name) {
            do throws(PluginLibrary.LoadError) { try check(name, neededBy: path, folders, below) } catch {
                throw .dependency(path, name, "\(error)")
            }
        }
    }

    private mutating func check(
        _ name: String, neededBy path: String, _ folders: [String], _ inherited: [String]
    ) throws(PluginLibrary.LoadError) {
        for place in name.hasSlash ? [try expand(name, path)] : folders.map({ "\($0)/\(name)" }) {
            guard !place.hasPrefix(Self.origin) else {
                let own = place.replacing(Self.origin, with: OpenFolder.parent(of: path), maxReplacements: 1)
                if unsafe access(own, F_OK) == 0 { throw .besideCopy(own) }
                continue
            }
            guard let found = try Self.find(place) else { continue }
            let bytes: [UInt8]
            do throws(SystemError) { bytes = try FileDescriptor.openFile(found, O_RDONLY).readAll(limit: PluginLibrary.maximumFile) } catch
            {
                throw .unreadable(error)
            }
            // The loader skips a library that is built for another machine.
            if let header = ELFHeader(bytes), !header.isNative { continue }
            return try check(bytes, found, inherited: inherited)
        }
    }

    /// The file that the loader would find at a path, after checking its CPU-specific variants (`glibc-hwcaps`); nil when there is
    /// none.
    private static func find(_ place: String) throws(PluginLibrary.LoadError) -> String? {
        let folder = OpenFolder.parent(of: place)
        guard try FileTrust.checkFolder(folder) else { return nil }
        let better = "\(folder)/glibc-hwcaps"
        if try FileTrust.checkFolder(better) {
            for variant in (try? FolderListing(better))?.folders ?? [] {
                let file = "\(better)/\(variant)/\(place.dropFirst(folder.count + 1))"
                if unsafe access(file, F_OK) == 0 { _ = try FileTrust.check(file) }
            }
        }
        return unsafe access(place, F_OK) == 0 ? try FileTrust.check(place) : nil
    }

    private static let origin = "$ORIGIN"

    /// Replaces `$ORIGIN` by the folder of the object that names it (ld.so(8)); for the sealed copy it is left in place.
    private func expand(_ text: String, _ path: String) throws(PluginLibrary.LoadError) -> String {
        let plain = text.replacing("${ORIGIN}", with: Self.origin)
        if path == copied, plain.hasPrefix(Self.origin) { return plain }
        let folder = plain.replacing(Self.origin, with: OpenFolder.parent(of: path))
        // The values of $LIB and $PLATFORM depend on the loader.
        guard !folder.contains("$") else { throw .untrusted(path: path, why: "looks for libraries in \(text), which is not known here") }
        return folder
    }

    /// The library behind `async` in Swift, which the gateway itself does without. It fits only the `libswiftCore` of the same release,
    /// so plugins get the one that the gateway's own folder for libraries has.
    private static let concurrency = "libswift_Concurrency.so"

    /// Whether the loader would use a library that is already loaded in the process; ``concurrency`` is loaded first.
    private static func isGiven(_ name: String) -> Bool {
        let flags = name == concurrency ? RTLD_NODELETE : RTLD_NOLOAD
        guard !name.hasSlash, let handle = unsafe dlopen(name, RTLD_LAZY | flags) else { return false }
        unsafe dlclose(handle)
        return true
    }
}
