/// The first bytes of an ELF file, enough to explain why the loader would refuse it.
struct ELFHeader: Equatable {
    let is64Bit: Bool
    let isLittleEndian: Bool
    let type: UInt16
    let machine: UInt16

    /// The header values of the running program.
    static let native: ELFHeader = {
        #if arch(x86_64)
            ELFHeader(machine: 62)
        #elseif arch(arm64)
            ELFHeader(machine: 183)
        #else
            ELFHeader(machine: 0)
        #endif
    }()

    private init(machine: UInt16) {
        (is64Bit, isLittleEndian, type, self.machine) = (true, true, 3, machine)
    }

    /// Reads the header from at least 20 bytes; nil when they are not the start of an ELF file.
    init?(_ bytes: [UInt8]) {
        guard bytes.count >= 20, bytes.starts(with: [0x7F, 0x45, 0x4C, 0x46]) else { return nil }
        is64Bit = bytes[4] == 2
        isLittleEndian = bytes[5] == 1
        let (low, high) = bytes[5] == 1 ? (0, 1) : (1, 0)
        type = UInt16(bytes[16 + low]) | UInt16(bytes[16 + high]) << 8
        machine = UInt16(bytes[18 + low]) | UInt16(bytes[18 + high]) << 8
    }

    /// The end offset in the file of the last loaded segment, from the program headers of a native file. If it lies beyond the end
    /// of the file, loading would end the process with SIGBUS. Program headers outside the file give `Int.max`.
    func loadedEnd(_ bytes: [UInt8]) -> Int {
        func number(_ offset: Int, _ size: Int) -> Int? {
            guard offset >= 0, offset <= bytes.count - size else { return nil }
            return bytes[offset..<(offset + size)].reversed().reduce(0) { ($0 & 0xFF_FFFF_FFFF_FFFF) << 8 | Int($1) }
        }
        guard let start = number(32, 8), let size = number(54, 2), let count = number(56, 2) else { return .max }
        var end = 0
        for index in 0..<count {
            let header = start &+ index * size
            guard let type = number(header, 4), let offset = number(header &+ 8, 8), let length = number(header &+ 32, 8)
            else { return .max }
            let (sum, overflow) = offset.addingReportingOverflow(length)
            if type == 1 { end = max(end, overflow || offset < 0 || length < 0 ? .max : sum) }
        }
        return end
    }

    var isSharedObject: Bool { type == 3 }
    var isNative: Bool {
        is64Bit && isLittleEndian && (machine == Self.native.machine || Self.native.machine == 0)
    }
}
