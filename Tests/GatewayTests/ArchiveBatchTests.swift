import LinuxSystem
import PluginKit
import ProfileArchive
import Testing

@testable import Profiles
@testable import TestSupport

@Suite("A batch of archived profiles")
struct ArchiveBatchTests {
    @Test("An abort ends a batch between two profiles, and leaves no temporary file of those that are not stored", arguments: 0...6)
    func abort(afterLooks looks: Int) throws {
        let folder = try TestFolder()
        let profiles = (1...3).map { number in
            let content = ProfileContent(api: .ingest, receivedAt: 1, path: "/ingest", format: .pprof, samples: [.init(range: 0..<0)])
            return ReceivedProfile(content, body: ByteBuffer(), sequence: UInt64(number))
        }
        // It looks once before each payload is written, and once before each profile is synced.
        var count = 0
        var batch = ArchiveBatch(Archive(folder.path), durable: []) {
            count += 1
            return count > looks
        }
        let results = withExtendedLifetime(profiles) {
            batch.store(profiles.map { unsafe ArchiveEntry(PluginKit.Profile(view: $0.view)) })
        }
        let stored = results.map { (try? $0.get()) != nil }
        #expect(stored == (0..<3).map { $0 < looks - 3 })
        #expect(TestFolder.files(below: folder.path).count == 2 * max(0, looks - 3))
    }
}
