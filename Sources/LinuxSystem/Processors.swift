import CLinux
import Glibc

/// The processors that this process may use.
public enum Processors {
    /// How many there are: those that the affinity of the calling thread allows (taskset(1), cpusets), or fewer when the bandwidth of
    /// the process's control group is less (`cpu.max`); at least 1.
    public static var usable: Int {
        let allowed = Int(clinux_usable_processors())
        let all = allowed > 0 ? allowed : sysconf(Int32(_SC_NPROCESSORS_ONLN))
        return max(1, min(all, quota(of: text("/proc/self/cgroup")) { text("/sys/fs/cgroup\($0)/cpu.max") }))
    }

    private static func text(_ path: String) -> String {
        String(decoding: (try? FileDescriptor.open(path, O_RDONLY).readAll(limit: 1 << 16)) ?? [], as: UTF8.self)
    }

    /// The least bandwidth of a control group and those above it, in whole processors, rounded up; `Int.max` without a limit.
    ///
    /// - Parameters:
    ///   - groups: the content of `/proc/self/cgroup`; only a group of version 2 is looked at.
    ///   - maximum: returns a group's `cpu.max`, such as `150000 100000` or `max 100000`.
    static func quota(of groups: String, _ maximum: (String) -> String) -> Int {
        guard let line = groups.split(separator: "\n").first(where: { $0.hasPrefix("0::/") }) else { return .max }
        var (folder, least) = (line.dropFirst(3), Int.max)
        while true {
            while folder.hasSuffix("/") { folder.removeLast() }
            let fields = maximum(String(folder)).split { $0 == " " || $0 == "\n" }.map { Int($0) }
            if fields.count == 2, let time = fields[0], let period = fields[1], time > 0, period > 0 {
                least = min(least, (time - 1) / period + 1)
            }
            guard let slash = folder.lastIndex(of: "/") else { return least }
            folder = folder[..<slash]
        }
    }
}
