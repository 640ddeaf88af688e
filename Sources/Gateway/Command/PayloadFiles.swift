import Glibc
import LinuxSystem
import Profiles

/// Writes the payloads of one profile to files.
enum PayloadFiles {
    /// Writes a single payload to `path`, or several to `path-0`, `path-1` and so on; on an error all are removed again.
    ///
    /// - Throws: EEXIST when a file exists already.
    /// - Returns: the paths of the files.
    static func write(_ profile: ReceivedProfile, to path: String) throws(SystemError) -> [String] {
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
