import Foundation
import Testing

@Suite("Seeds and past findings of the fuzz targets")
struct CorpusTests {
    private static let corpora = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().appendingPathComponent("Corpora").path

    @Test("Every seed and every past finding passes its target", arguments: FuzzTarget.allCases)
    func replay(target: FuzzTarget) throws {
        let folder = "\(Self.corpora)/\(target.rawValue)"
        let names = try FileManager.default.contentsOfDirectory(atPath: folder).sorted()
        #expect(!names.isEmpty)
        for name in names { target.run(Array(try Data(contentsOf: URL(fileURLWithPath: "\(folder)/\(name)")))) }
    }

    @Test("Every folder of inputs has a target")
    func folders() throws {
        let names = try FileManager.default.contentsOfDirectory(atPath: Self.corpora).filter { !$0.contains(".") }
        #expect(Set(names) == Set(FuzzTarget.allCases.map(\.rawValue)))
    }
}
