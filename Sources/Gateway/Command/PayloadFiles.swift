import Glibc
import LinuxSystem

/// The payloads of one profile as files.
enum PayloadFiles {
    /// Writes the single payload to `path`, or several to `path-0`, `path-1` and so on; all of them or none.
    ///
    /// - Throws: EEXIST when a file is there already.
    /// - Returns: the files.
    static func write(_ profile: Profile, to path: String) throws(SystemError) -> [String] {
        let count = profile.sampleCount
        let paths = count == 1 ? [path] : (0..<count).map { "\(path)-\($0)" }
        var made: [String] = []
        do throws(SystemError) {
            for (index, path) in paths.enumerated() {
                let file = try FileDescriptor.open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode: 0o600)
                made.append(path)
                try profile.withSample(index) { (bytes) throws(SystemError) in try file.writeAll(bytes) }
            }
        } catch {
            for path in made { unsafe unlink(path) }
            throw error
        }
        return paths
    }
}
