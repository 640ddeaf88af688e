import ConfigJSON
import LinuxSystem
import Receivers
import SpoolStore
import Telemetry

extension Config {
    /// A warning when the queues on disk may grow beyond the disk.
    ///
    /// - Parameter space: the size in bytes of the file system that a path is on; nil when unknown.
    func diskWarning(_ space: (_ path: String) -> Int?) -> String? {
        guard let dataDirectory, let total = space(dataDirectory) else { return nil }
        let bounds = receivers.filter { $0.queue.storage == .disk }.map(\.queue.maxBytes)
        let sum = bounds.reduce(0) { sum, bytes in
            let (sum, overflow) = sum.addingReportingOverflow(bytes)
            return overflow ? .max : sum
        }
        let wanted = min(spool.maxBytes ?? .max, sum)
        let usable = total - spool.reserve(of: total)
        guard wanted > usable else { return nil }
        let source = spool.maxBytes ?? .max < sum ? "spool.max_bytes is" : "the max_bytes of the queues on disk are together"
        return """
            \(source) \(readableSize(wanted)), and its file system holds \(readableSize(max(0, usable))) \
            beside what spool.min_free_bytes leaves free: the disk is full before the queues are
            """
    }
}

enum DiskSpace {
    /// The size of the file system that a path is on, or would be created on.
    static func total(of path: String) -> Int? {
        var path = path[...]
        while true {
            if let space = try? OpenFolder(path.isEmpty ? "." : String(path)).space() { return space.total }
            guard !path.isEmpty, path != "/" else { return nil }
            guard let slash = path.lastIndex(of: "/") else { path = ""; continue }
            path = slash == path.startIndex ? "/" : path[..<slash]
        }
    }
}
