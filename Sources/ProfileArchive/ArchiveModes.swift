public import ConfigJSON
import Glibc
public import LinuxSystem

/// The permissions of new files and folders in an archive; existing ones keep theirs.
public struct ArchiveModes: Sendable, Equatable {
    /// The permissions of new files.
    public var file = FileMode(0o640)
    /// The permissions of new folders.
    public var directory = FileMode(0o750)

    /// Makes the default permissions, 0640 for files and 0750 for folders, which the umask reduces.
    public init() {}

    /// Reads `file_mode` and `directory_mode`, which apply whatever the umask is.
    public init(_ object: ConfigObject) {
        file = object.mode("file_mode", default: file, example: "0640", needs: 0o600, refuses: 0o111)
        directory = object.mode("directory_mode", default: directory, example: "0750", needs: 0o700, refuses: 0)
    }
}

extension ConfigObject {
    fileprivate func mode(_ name: String, default fallback: FileMode, example: String, needs: mode_t, refuses: mode_t) -> FileMode {
        guard let text = string(name) else { return fallback }
        let isOctal = 3...4 ~= text.utf8.count && text.utf8.allSatisfy { 48...55 ~= $0 }
        guard isOctal, let bits = mode_t(text, radix: 8), bits <= 0o777 else {
            refuse(name, "must be an octal number such as \"\(example)\", at most \"0777\", is \(JSONValue.quoted(text))")
            return fallback
        }
        if bits & needs != needs { refuse(name, "would keep the gateway itself out: \(JSONValue.quoted(text))") }
        if bits & refuses != 0 { refuse(name, "makes files executable: \(JSONValue.quoted(text))") }
        if bits & 0o002 != 0 { warn(name, "lets everybody write: \(JSONValue.quoted(text))") }
        return FileMode(bits, isExact: true)
    }
}
