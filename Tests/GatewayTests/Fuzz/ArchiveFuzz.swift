import Glibc
import LinuxSystem
import ProfileArchive

@testable import PluginHost
@testable import Receivers

/// All dead letters of a folder are removed when there is no room, and no other file is, whatever its name.
///
/// Each line of the input is the path of a file.
func fuzzDeadLetters(_ bytes: [UInt8]) {
    let folder = FuzzFolder()
    var paths: Set<String> = []
    for line in bytes.split(separator: 10).prefix(24) {
        let parts = line.split(separator: 47).map { String(decoding: $0, as: UTF8.self) }
        guard (1...3).contains(parts.count), parts.allSatisfy({ isName($0) }) else { continue }
        // A file that has the name of another one's folder is left out.
        let path = parts.joined(separator: "/")
        guard !paths.contains(where: { $0.utf8.starts(with: "\(path)/".utf8) || path.utf8.starts(with: "\($0)/".utf8) }) else { continue }
        folder.write("letters/\(path)", [1, 2, 3])
        paths.insert(path)
    }
    guard !paths.isEmpty else { return }
    let letters = paths.filter { ArchivedName($0.pathComponents.last ?? "") != nil }
    var found = DeadLetterFolder(Archive("letters", in: folder.folder))
    promise(found.byteCount == 3 * letters.count, "\(found.byteCount) bytes in \(letters.count) files")
    found.forgetMissing()
    promise(found.byteCount == 3 * letters.count, "letters are missing that are there")
    _ = found.makeRoom(0)
    promise(found.count == 0 && found.byteCount == 0, "letters are left that have no room")
    for path in paths where !TemporaryName.matches(path.pathComponents.last ?? "") {
        promise((access("\(folder.path)/letters/\(path)", F_OK) == 0) == !letters.contains(path), "\(path) is wrongly there or gone")
    }
}

/// Whether a text can be the name of a file.
private func isName(_ text: String) -> Bool { text.utf8.count <= 200 && !text.contains("\0") && ![".", ".."].contains(text) }

/// Metadata is refused, or names files of its own folder, each once.
func fuzzSidecar(_ bytes: [UInt8]) {
    let folder = FuzzFolder()
    let name = "20260131T235959.123456789Z-5.json"
    folder.write(name, bytes)
    guard let profile = try? ArchivedProfile(name, in: folder.folder) else { return }
    promise(profile.isPush || profile.payloads.count == 1, "not one payload on /ingest")
    promise(Set(profile.payloads.map(\.file)).count == profile.payloads.count, "a file that is read twice")
    for payload in profile.payloads {
        promise(
            !payload.file.utf8.contains(47) && payload.file.utf8.first != 46 && !payload.file.isEmpty, "a file elsewhere: \(payload.file)")
        _ = try? profile.bytes(of: payload, in: folder.folder)
    }
}

/// An archive's index is refused, or adds up after any change and is the same when it is written and read again.
func fuzzArchiveIndex(_ bytes: [UInt8]) {
    let folder = FuzzFolder()
    folder.write(ArchiveIndex.name, bytes)
    guard var index = must({ () throws(SystemError) in try ArchiveIndex.read(from: folder.folder) }) else { return }
    promise(index.hours.keys.allSatisfy { ArchiveIndex.isHour($0) }, "an hour that is none")
    promise(index.changing.isSubset(of: index.hours.keys), "an hour is changing that is not there")
    for hour in index.hours.keys.sorted() {
        check(index)
        // More is added than any profile has, and more files are removed than were added.
        index.add(hour, files: 2, bytes: .max)
        check(index)
        index.add(hour, files: -3, bytes: -4)
    }
    must { () throws(SystemError) in try index.write(to: folder.folder, mode: FileMode(0o600)) }
    let again = must { () throws(SystemError) in try ArchiveIndex.read(from: folder.folder) }
    let isTooLarge = index.total.files > ArchiveIndex.largest || index.total.bytes > ArchiveIndex.largest
    promise(isTooLarge || again == index, "what was written is not what is read")
    while let oldest = index.oldest { index.set(oldest, nil) }
    promise(index.total == ArchiveIndex.Hour(), "something is left of nothing")
}

/// Checks that no number is negative and that the total is right.
private func check(_ index: ArchiveIndex) {
    let hours = index.hours.values
    promise(hours.allSatisfy { $0.files >= 0 && $0.bytes >= 0 }, "less than nothing")
    promise(hours.reduce(0) { $0 + $1.files } == index.total.files, "the files do not add up")
    promise(hours.reduce(0) { $0 + $1.bytes } == index.total.bytes, "the bytes do not add up")
}

/// The headers of a plugin's file are read wherever they lead, and the names found are texts of the file.
func fuzzELF(_ bytes: [UInt8]) {
    guard let header = ELFHeader(bytes), header.isNative else { return }
    promise(header.loadedEnd(bytes) >= 0, "an end before the beginning")
    guard let found = ELFDependencies(bytes) else { return }
    for text in found.needed { promise(text.isEmpty || contains(bytes, Array(text.utf8)), "a name from nowhere") }
    promise(found.runPath.isEmpty || found.inheritedPath.isEmpty, "folders that the loader passes over")
}

private func contains(_ bytes: [UInt8], _ text: [UInt8]) -> Bool {
    bytes.indices.contains { bytes[$0...].starts(with: text) }
}
