import Testing

@testable import LinuxSystem

@Suite("CRC-32C")
struct CRC32CTests {
    /// The examples of RFC 3720 appendix B.4, and the usual check value of CRC catalogues.
    static let known: [([UInt8], UInt32)] = [
        ([], 0),
        (Array("123456789".utf8), 0xE306_9283),
        ([UInt8](repeating: 0, count: 32), 0x8A91_36AA),
        ([UInt8](repeating: 0xFF, count: 32), 0x62A8_AB43),
        (Array(0..<32), 0x46DD_794E),
    ]

    @Test("The processor and the table both give the known sums", arguments: known)
    func values(bytes: [UInt8], sum: UInt32) {
        #expect(CRC32C.of(bytes.span.bytes) == sum)
        #expect(Self.byTable(bytes) == sum)
    }

    @Test("The processor and the table agree at every length, and for bytes in pieces")
    func agreement() {
        let bytes = (0..<5000).map { UInt8(truncatingIfNeeded: $0 &* 37 ^ $0 >> 3) }
        // The processor computes blocks of 1536 bytes in three parts.
        for count in Array(0..<200) + (1..<4).flatMap({ $0 * 1536 - 9..<$0 * 1536 + 10 }) {
            let part = Array(bytes[..<count])
            let whole = CRC32C.of(part.span.bytes)
            #expect(whole == Self.byTable(part))
            var pieces = CRC32C()
            pieces.add(Array(part[..<(count / 3)]).span.bytes)
            pieces.add(Array(part[(count / 3)...]).span.bytes)
            #expect(pieces.value == whole)
        }
    }

    private static func byTable(_ bytes: [UInt8]) -> UInt32 {
        var sum = CRC32C()
        bytes.withUnsafeBytes { sum.addByTable($0) }
        return sum.value
    }
}
