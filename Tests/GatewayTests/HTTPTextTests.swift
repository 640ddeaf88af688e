import LinuxSystem
import Testing

@Suite("Texts of HTTP")
struct HTTPTextTests {
    @Test("A number is appended in decimal digits", arguments: [0, 1, 9, 10, 99, 100, 101, 999, 1000, 9216, 1_234_567_890, .max])
    func decimal(number: Int) {
        var bytes = Array("x".utf8)
        bytes.append(decimal: number)
        #expect(String(decoding: bytes, as: UTF8.self) == "x\(number)")
    }

    @Test("A negative number, which none should be, is a zero")
    func negative() {
        var bytes: [UInt8] = []
        bytes.append(decimal: -5)
        #expect(bytes == Array("0".utf8))
    }
}
