import Glibc
import LinuxSystem

/// The error for a segment that has a file which cannot be opened or read now; the segment is left untouched.
package struct UnreadableSegment: Error, CustomStringConvertible {
    enum Reason: Sendable {
        case system(SystemError)
        /// Written by a later version of this program.
        case newer(UInt32)
    }

    let number: UInt64
    let file: SpoolFormat.File
    let reason: Reason

    package var name: String { file.name(of: number) }

    package var description: String {
        switch reason {
        case .system(let error): "\(error)"
        case .newer(let version):
            "the spool's \(name) has format version \(version); this program knows up to \(SpoolFormat.version)"
        }
    }

    var code: Int32 { if case .system(let error) = reason { error.code } else { 0 } }

    /// Runs `body`, and converts its error to one that names the segment's file.
    static func of<R>(
        _ number: UInt64, _ file: SpoolFormat.File, _ body: () throws(SystemError) -> R
    ) throws(UnreadableSegment) -> R {
        do throws(SystemError) { return try body() } catch {
            throw UnreadableSegment(number: number, file: file, reason: .system(error))
        }
    }
}
