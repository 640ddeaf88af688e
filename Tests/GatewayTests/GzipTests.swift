import LinuxSystem
import PushWire
import Testing

@testable import TestSupport

@Suite("gzip")
struct GzipTests {
    /// The output of `printf hello | gzip -n`.
    private static let hello: [UInt8] = [
        0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0xcb, 0x48, 0xcd, 0xc9, 0xc9, 7, 0, 0x86, 0xa6, 0x10, 0x36, 5, 0, 0, 0,
    ]
    /// The same with extra bytes, a name and a comment in the header (RFC 1952 §2.3).
    private static let named: [UInt8] =
        [0x1f, 0x8b, 8, 0x1C, 0, 0, 0, 0, 0, 3] + [2, 0, 0xAA, 0xBB] + Array("hello.txt\0a comment\0".utf8) + hello[10...]

    /// Inflates the input, and returns the content or the failure.
    private static func outcome(_ input: [UInt8], limit: Int = 1 << 20, excess: Int = .max) throws -> (
        content: [UInt8], failure: Gzip.Failure?
    ) {
        var buffer = ByteBuffer()
        try buffer.append(input.span.bytes)
        do throws(Gzip.Failure) {
            let output = try Gzip.inflate(buffer, limit: limit, excess: excess)
            return (output.withBytes { span in span.withUnsafeBytes { Array($0) } }, nil)
        } catch { return ([], error) }
    }

    private static func compressed(_ content: [UInt8]) throws -> [UInt8] { try #require(Gzip.deflate(content)) }

    @Test("The output of the gzip tool inflates, with and without optional header fields", arguments: [hello, named])
    func realBytes(input: [UInt8]) throws { #expect(try Self.outcome(input).content == Array("hello".utf8)) }

    @Test("Deflated content inflates to itself", arguments: [0, 1, 100, 65_535, 65_536, 65_537, 300_000])
    func roundTrip(count: Int) throws {
        var random = SeededRandom()
        let noise = (0..<count).map { _ in UInt8(truncatingIfNeeded: random.next()) }
        for content in [noise, [UInt8](repeating: 0, count: count)] {
            #expect(try Self.outcome(Self.compressed(content)).content == content)
        }
    }

    @Test("Several members inflate to one content")
    func members() throws {
        let empty = try Self.compressed([])
        #expect(try Self.outcome(Self.hello + Self.named + empty + Self.hello).content == Array("hellohellohello".utf8))
    }

    @Test("Content above the limit is refused as too large", arguments: [0, 1, 65_535, 65_536, 65_537, 1_000_000], [-1, 0, 1])
    func limit(count: Int, room: Int) throws {
        guard count + room >= 0 else { return }
        let result = try Self.outcome(Self.compressed([UInt8](repeating: 0, count: count)), limit: count + room)
        #expect(result.failure == (room < 0 ? .tooLarge : nil))
        #expect(result.content.count == (room < 0 ? 0 : count))
    }

    @Test("Data that inflates to less than it is by more than allowed is refused", arguments: [1, 7, 5000], [-1, 0, 1])
    func sparse(members: Int, room: Int) throws {
        let empty = try Self.compressed([])
        let data = Array(repeatElement(empty, count: members).joined())
        let result = try Self.outcome(data, excess: data.count + room)
        #expect(result.failure == (room < 0 ? .tooSparse : nil) && result.content.isEmpty)
        // Content before it makes up for it.
        let content = [UInt8](repeating: 1, count: data.count)
        #expect(try Self.outcome(Self.compressed(content) + data, excess: 1000).content == content)
    }

    @Test("Members count together against the limit", arguments: [(14, true), (15, false), (16, false)])
    func limitOfMembers(limit: Int, isTooLarge: Bool) throws {
        #expect(try Self.outcome(Self.hello + Self.hello + Self.hello, limit: limit).failure == (isTooLarge ? .tooLarge : nil))
    }

    @Test(
        "Bytes after the last member are refused",
        arguments: [[0], [0, 0, 0], [0x1f], [0x1f, 0x8b], [0x78, 0x9c], Array("x".utf8)] as [[UInt8]])
    func trailing(rest: [UInt8]) throws { #expect(try Self.outcome(Self.hello + rest).failure == .malformed) }

    @Test("A truncated member is refused, also as the second one")
    func truncated() throws {
        for start in [[], Self.hello] {
            let input = start + Self.named
            for end in (start.count + (start.isEmpty ? 0 : 1))..<input.count {
                #expect(try Self.outcome(Array(input[..<end])).failure == .malformed, "cut at \(end)")
            }
        }
    }

    @Test("Content with a wrong checksum or length is refused")
    func checksum() throws {
        for index in (Self.hello.count - 8)..<Self.hello.count {
            var input = Self.hello
            input[index] ^= 1
            #expect(try Self.outcome(input).failure == .malformed, "byte \(index)")
        }
    }

    @Test("The zlib format, raw deflate and plain text are refused")
    func otherFormats() throws {
        let raw = Array(Self.hello[10..<(Self.hello.count - 8)])
        for input in [[0x78, 0x9c] + raw + [6, 0x2c, 2, 0x15], raw, Array("hello".utf8)] {
            #expect(try Self.outcome(input).failure == .malformed)
        }
    }

    @Test("Mutated input is inflated within the limit or refused")
    func garbage() throws {
        var random = SeededRandom()
        let input = try Self.named + Self.compressed([UInt8](repeating: 0x61, count: 5000)) + Self.hello
        for _ in 0..<5000 { #expect(try Self.outcome(random.mutated(input), limit: 5010).content.count <= 5010) }
    }
}
