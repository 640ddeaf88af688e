import Foundation
import LinuxSystem

@testable import Profiles
@testable import SpoolStore
@testable import TestSupport

/// A data directory that a spool of this process fills like a gateway.
struct SpoolOnDisk {
    let dataDirectory: String
    var folder: String { "\(dataDirectory)/spool" }

    init(_ folder: borrowing TestFolder) { dataDirectory = "\(folder.path)/data" }

    /// Opens the spool and stores each profile for these receivers in its own append; returns the positions.
    @discardableResult
    func store(_ profiles: [ReceivedProfile], for receivers: [String], _ config: SpoolConfig = SpoolConfig()) throws -> [SpoolPosition] {
        try withSpool(config) { spool in
            let places = WaitableValue<[SpoolPosition]>([])
            for profile in profiles {
                _ = spool.append(
                    SpoolAppend(profiles: [profile], receivers: receivers) { result in
                        places.update { $0 += (try? result.get()) ?? [SpoolPosition(segment: 0, ordinal: 0, offset: 0, length: 0)] }
                    })
            }
            return try places.wait { $0.count == profiles.count ? $0 : nil }
        }
    }

    /// Notes a receiver's attempt at records, or settles them if there is none.
    func note(_ positions: [SpoolPosition], _ receiver: String, _ attempt: SpoolAttempt? = nil) throws {
        try withSpool { spool in
            for position in positions {
                if let attempt { spool.attempted(position, receiver, attempt) } else { spool.settle(position, receiver) }
            }
        }
    }

    /// Opens the spool like a start, and closes it like an orderly end.
    func withSpool<R>(_ config: SpoolConfig = SpoolConfig(), _ body: (Spool) throws -> R) throws -> R {
        let spool = try Spool(dataDirectory: dataDirectory, config, pendingLimit: 1 << 30)
        try spool.start()
        defer { spool.stop() }
        return try body(spool)
    }

    /// The path of the first file of a kind.
    func file(_ kind: SpoolFormat.File) throws -> String {
        let names = try FileManager.default.contentsOfDirectory(atPath: folder).filter { $0.hasSuffix(kind.rawValue) }.sorted()
        return "\(folder)/\(names.first ?? "no-\(kind.rawValue)")"
    }

    /// Changes the content of the first file of a kind.
    func change(_ kind: SpoolFormat.File, _ edit: (inout Data) -> Void) throws {
        let url = URL(fileURLWithPath: try file(kind))
        var data = try Data(contentsOf: url)
        edit(&data)
        try data.write(to: url)
    }
}
