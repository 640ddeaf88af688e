import Testing

@testable import PluginHost
@testable import TestSupport

@Suite("ELF headers")
struct ELFHeaderTests {
    /// The first 20 bytes of a file; numbers are little-endian unless `data` is 2.
    private static func bytes(class width: UInt8 = 2, data: UInt8 = 1, type: UInt8 = 3, machine: UInt16) -> [UInt8] {
        let (low, high) = (UInt8(machine & 0xFF), UInt8(machine >> 8))
        let numbers = data == 1 ? [type, 0, low, high] : [0, type, high, low]
        return [0x7F, 0x45, 0x4C, 0x46, width, data, 1, 0] + [UInt8](repeating: 0, count: 8) + numbers
    }

    private static var native: UInt16 { ELFHeader.native.machine }

    @Test("A shared object for this machine is accepted")
    func native() throws {
        let header = try #require(ELFHeader(Self.bytes(machine: Self.native)))
        #expect(header == .native)
        #expect(header.isSharedObject && header.isNative)
    }

    @Test("Another machine, width or byte order is not native")
    func foreign() throws {
        for bytes in [Self.bytes(machine: 243), Self.bytes(class: 1, machine: Self.native), Self.bytes(data: 2, machine: Self.native)] {
            let header = try #require(ELFHeader(bytes))
            #expect(!header.isNative)
            #expect(header.isSharedObject)
        }
    }

    @Test("Numbers are read in the byte order of the file")
    func bigEndian() throws {
        #expect(try #require(ELFHeader(Self.bytes(data: 2, machine: 22))).machine == 22)
        #expect(try #require(ELFHeader(Self.bytes(machine: 0x0102))).machine == 0x0102)
    }

    @Test("An executable or an object file is no shared object", arguments: [0, 1, 2, 4] as [UInt8])
    func otherType(type: UInt8) throws {
        #expect(try !#require(ELFHeader(Self.bytes(type: type, machine: 62))).isSharedObject)
    }

    @Test("A file that is too short or begins differently has no ELF header")
    func none() {
        let bytes = Self.bytes(machine: 62)
        for count in 0..<20 { #expect(ELFHeader(Array(bytes.prefix(count))) == nil) }
        #expect(ELFHeader([0x7E] + bytes.dropFirst()) == nil)
        #expect(ELFHeader(Array("#!/bin/sh\nexit 0 # and more\n".utf8)) == nil)
    }

    @Test("Mutated bytes give a header or nil, and no crash")
    func garbage() {
        var random = SeededRandom()
        for _ in 0..<2000 { _ = ELFHeader(random.mutated(Self.bytes(machine: 62)))?.isNative }
    }
}
