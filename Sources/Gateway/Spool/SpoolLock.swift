import Glibc
import LinuxSystem

/// The file `lock` of a data directory, open; what was taken by it is free again when this object goes.
final class SpoolLock: Sendable {
    static let name = "lock"

    /// Which file it is.
    let identity: FileIdentity
    private let file: FileDescriptor

    /// Opens it and takes nothing.
    ///
    /// - Parameter makes: whether to make it where it is not there.
    init(in folder: OpenFolder, makes: Bool) throws(SystemError) {
        file = try folder.open(Self.name, makes ? O_RDWR | O_CREAT : O_RDONLY, mode: 0o600)
        identity = try file.identity()
    }

    /// Takes it for this process alone; false when another one has it.
    ///
    /// Tries for a moment: whoever looks whether a gateway runs has the lock for microseconds.
    func take() -> Bool {
        for _ in 0..<10 where !file.lock() { usleep(10_000) }
        return file.lock()
    }

    /// True when another process has it just now.
    var isTakenElsewhere: Bool { file.isLockedElsewhere }

    /// Writes down which process has it.
    func nameOwner() {
        do throws(SystemError) {
            try file.truncate(to: 0)
            try unsafe file.writeAll(Array("\(getpid())\n".utf8).span.bytes, at: 0)
        } catch { Log.debug("the lock does not name its process", ["error": "\(error)"]) }
    }

    /// The process that it names, for people: `, 4711`, or nothing.
    var owner: String { number.map { ", \($0)" } ?? "" }

    var namesThisProcess: Bool { number == "\(getpid())" }

    private var number: String? {
        let text = String(decoding: (try? file.read(16, at: 0)) ?? [], as: UTF8.self).prefix { $0.isNumber }
        return text.isEmpty ? nil : String(text)
    }
}
