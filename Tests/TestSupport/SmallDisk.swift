import Foundation
import Glibc
import Testing

/// A small file system at a path in the scenario's folder.
///
/// Users who may not mount get one in the mount namespace of another process, and reach it by that process's root in /proc.
final class SmallDisk {
    private enum Way: Sendable { case mount, namespace }

    private static let way: Way? = {
        let makes = "d=$(mktemp -d) && mount -t tmpfs -o size=64k t $d && umount $d; s=$?; rmdir $d; exit $s"
        for (way, shell) in [(Way.mount, "sh"), (.namespace, "unshare -rm sh")]
        where system("\(shell) -c '\(makes)' >/dev/null 2>&1") == 0 { return way }
        return nil
    }()

    static let isPossible = way != nil
    /// Whether it can be mounted at a given path, and not only be the target of a link.
    static let canMount = way == .mount
    static let reason: Comment = "no file system can be mounted here: neither as this user nor in a user namespace"

    /// The path that leads to the file system.
    let path: String
    private let scenario: Scenario

    /// - Parameters:
    ///   - isLinked: whether the path is a link to it, which is necessary if ``canMount`` is false.
    ///   - type: a ramfs has no bound, and does not tell its size.
    init(_ scenario: Scenario, _ name: String = "disk", mebibytes: Int = 32, isLinked: Bool = true, type: String = "tmpfs") throws {
        (self.scenario, path) = (scenario, scenario.path(name))
        let point = isLinked ? scenario.path("\(name)-mount") : path
        try FileManager.default.createDirectory(atPath: point, withIntermediateDirectories: true)
        let mount = "mount -t \(type) -o size=\(mebibytes)m,mode=755 \(type) \(point)"
        var target = point
        if Self.way == .mount {
            guard try scenario.run("sh", "-c", mount).status == 0 else { throw NeverCame(what: mount, seen: []) }
            scenario.atEnd { umount2(point, Int32(MNT_DETACH)) }
        } else {
            let holder = try scenario.start(["unshare", "-rm", "sh", "-c", "\(mount) && echo mounted by $$ && exec cat"])
            let line = try holder.output.wait(for: "mounted by")
            target = "/proc/\(line.split(separator: " ").last ?? "")/root\(point)"
        }
        if isLinked { try FileManager.default.createSymbolicLink(atPath: path, withDestinationPath: target) }
    }

    /// Fills this much of the file system, or frees it again with 0.
    func setBallast(mebibytes: Int) throws {
        let file = "\(path)/ballast"
        try? FileManager.default.removeItem(atPath: file)
        if mebibytes > 0 { try Data(count: mebibytes << 20).write(to: URL(fileURLWithPath: file)) }
    }

    /// The number of free bytes.
    var free: Int {
        var disk = statvfs()
        return statvfs(path, &disk) == 0 ? Int(disk.f_bavail) * Int(disk.f_frsize) : 0
    }
}
