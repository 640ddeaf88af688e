import LinuxSystem
import Testing

@Suite("Waiting for others")
struct PatienceTests {
    private static let start = MonotonicTime(nanoseconds: 1_000_000_000_000)

    @Test("Time that passes between looks is spent, and at its end there is no next look")
    func spent() {
        var patience = Patience(.milliseconds(100), from: Self.start)
        #expect(patience.look(Self.start) == Self.start + .milliseconds(20))
        #expect(patience.look(Self.start + .milliseconds(30)) == Self.start + .milliseconds(50))
        #expect(patience.look(Self.start + .milliseconds(69)) == Self.start + .milliseconds(89))
        // No look is later than the end.
        #expect(patience.look(Self.start + .milliseconds(95)) == Self.start + .milliseconds(100))
        #expect(patience.look(Self.start + .milliseconds(100)) == nil && patience.left == .zero)
    }

    @Test("Of a pause a part is spent", arguments: [(39, 61), (40, 60), (41, 60), (100_000, 60)])
    func pause(milliseconds: Int, left: Int) {
        var patience = Patience(.milliseconds(100), from: Self.start)
        #expect(patience.look(Self.start + .milliseconds(milliseconds)) != nil)
        #expect(patience.left == .milliseconds(left))
    }

    @Test("A result is found before and after the end, and none ends the wait")
    func wait() {
        let value = Monitor<Int?>(nil)
        var patience = Patience(.milliseconds(45))
        #expect(value.wait(&patience) { $0 } == nil)
        #expect(patience.left <= .zero)
        value.withLock { $0 = 5 }
        #expect(value.wait(&patience) { $0 } == 5)
    }
}
