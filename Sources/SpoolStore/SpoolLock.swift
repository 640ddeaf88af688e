import Glibc
import LinuxSystem
import Telemetry

/// The open file `lock` of a data directory; a lock taken with it is released when this object is deallocated.
final class SpoolLock: Sendable {
    static let name = "lock"

    /// The identity of the lock file, to recognize it at another path or in another mount.
    let identity: FileIdentity
    private let file: FileDescriptor

    /// Opens the file without taking the lock.
    ///
    /// - Parameter makes: whether to create the file if it does not exist.
    init(in folder: OpenFolder, makes: Bool) throws(SystemError) {
        file = try folder.open(Self.name, makes ? O_RDWR | O_CREAT : O_RDONLY, mode: 0o600)
        file.closeInForks()
        identity = try file.identity()
    }

    /// Takes the lock exclusively; returns false when another process holds it.
    ///
    /// Retries for about 100 ms, because a command that checks whether a gateway runs holds the lock for microseconds.
    func take() -> Bool {
        for _ in 0..<10 where !file.lock() { usleep(10_000) }
        return file.lock()
    }

    /// True while another process holds the lock.
    var isTakenElsewhere: Bool { file.isLockedElsewhere }

    /// Writes this process's id into the file.
    func nameOwner() {
        do throws(SystemError) {
            try file.truncate(to: 0)
            try unsafe file.writeAll(Array("\(getpid())\n".utf8).span.bytes, at: 0)
        } catch { Log.debug("the lock does not name its process", ["error": "\(error)"]) }
    }

    /// The process id in the file, for messages: `, 4711`, or empty when there is none.
    var owner: String { number.map { ", \($0)" } ?? "" }

    var namesThisProcess: Bool { number == "\(getpid())" }

    private var number: String? {
        let text = String(decoding: (try? file.read(16, at: 0)) ?? [], as: UTF8.self).prefix { $0.isNumber }
        return text.isEmpty ? nil : String(text)
    }
}
