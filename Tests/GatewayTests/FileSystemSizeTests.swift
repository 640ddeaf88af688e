import Testing

@testable import LinuxSystem

@Suite("The size of a file system")
struct FileSystemSizeTests {
    static let sizes: [(blocks: UInt, size: UInt, bytes: Int)] = [
        (0, 4096, 0), (10, 512, 5120), ((1 << 48) - 1, 4096, (1 << 60) - 4096), (1 << 48, 4096, 1 << 60), ((1 << 48) + 1, 4096, 1 << 60),
        (.max / 4096, 4096, 1 << 60), (.max, 4096, 1 << 60), (.max, 1, 1 << 60), (.max, .max, 1 << 60),
    ]

    @Test("Blocks are counted in bytes, up to a size with which one can go on to calculate", arguments: sizes)
    func bytes(blocks: UInt, size: UInt, bytes: Int) { #expect(OpenFolder.bytes(blocks, of: size) == bytes) }
}
