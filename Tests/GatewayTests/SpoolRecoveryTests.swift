import Foundation
import LinuxSystem
import Testing

@testable import SpoolStore
@testable import TestSupport

@Suite("Recovery of the spool at a start")
struct SpoolRecoveryTests: ~Copyable {
    private let folder: TestFolder
    private let disk: SpoolOnDisk

    init() throws {
        folder = try TestFolder()
        disk = SpoolOnDisk(folder)
    }

    @Test("A segment whose removal was interrupted is removed, and nothing of it counts as lost")
    func cutOffRemoval() throws {
        try disk.store([.sample(body: 10), .sample(body: 20)], for: ["up"])
        let records = try disk.file(.records)
        try FileManager.default.moveItem(atPath: records, toPath: records + ".tmp")
        #expect(try QueueSummary.all(disk.dataDirectory).queues == [])
        try disk.withSpool { spool in
            #expect(spool.backlog(of: "up").profiles == 0)
            #expect(spool.damagedRecords.value == 0)
        }
        #expect(try FileManager.default.contentsOfDirectory(atPath: disk.folder) == [])
    }

    @Test("Records whose file was lost still count")
    func lostRecords() throws {
        try disk.store([.sample(body: 10), .sample(body: 20)], for: ["up"])
        try FileManager.default.removeItem(atPath: try disk.file(.records))
        try disk.withSpool { #expect($0.backlog(of: "up").profiles == 2) }
    }

    @Test("Records that occur twice in a segment without an index do not prevent a start")
    func twice() throws {
        try disk.store([.sample(body: 10), .sample(body: 20)], for: ["up"])
        let head = SpoolHeader(segment: 1, salt: 1, createdAt: 1, receivers: ["up"]).encoded(.records).count
        try disk.change(.records) { $0 += $0.dropFirst(head) }
        try FileManager.default.removeItem(atPath: try disk.file(.index))
        try disk.withSpool { #expect($0.backlog(of: "up").profiles == 2) }
    }
}
