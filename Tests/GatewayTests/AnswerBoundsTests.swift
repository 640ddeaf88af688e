import LinuxSystem
import PushWire
import Testing

@testable import Telemetry

@Suite("The bounds of a response")
struct AnswerBoundsTests {
    /// Counts head lines and then body pieces of these sizes, and returns the last result and the bound that was exceeded.
    private static func excess(head: [Int] = [], body: [Int] = []) -> (isTaken: Bool, excess: String?) {
        var (bounds, isTaken) = (AnswerBounds(), true)
        for count in head { isTaken = takes(String(repeating: "h", count: count), &bounds) }
        for count in body { isTaken = bounds.takesBody(count) }
        return (isTaken, bounds.excess)
    }

    private static func takes(_ line: String, _ bounds: inout AnswerBounds) -> Bool {
        var text = line
        return text.withUTF8 { bounds.takesHead(UnsafeRawBufferPointer($0)) }
    }

    @Test("A head of 64 KiB and a body of 1 MiB are taken, and not a byte more", arguments: [-1, 0, 1])
    func sizes(beyond: Int) {
        let head = Self.excess(head: [AnswerBounds.head - 100, 100 + beyond])
        let body = Self.excess(head: [AnswerBounds.head], body: [AnswerBounds.body - 1, 1 + beyond])
        for (isTaken, excess) in [head, body] { #expect(isTaken == (beyond <= 0) && (excess == nil) == (beyond <= 0)) }
    }

    @Test("A head is complete after its blank line, until the head after an interim response begins")
    func heads() {
        var bounds = AnswerBounds()
        for (line, isWhole) in [
            ("HTTP/1.1 103 Early\r\n", false), ("A: b\r\n", false), ("\r\n", true), ("HTTP/1.1 200 OK\r\n", false), ("\n", true),
            ("T: u\r\n", true),
        ] {
            _ = Self.takes(line, &bounds)
            #expect(bounds.hasHead == isWhole && bounds.excess == nil, "\(line)")
        }
    }

    /// Counts turns without new bytes, and returns the result of the last one.
    private static func idle(
        _ turns: Int, _ bounds: inout AnswerBounds, sent: Int = 0, from start: MonotonicTime, every step: Duration = .zero
    ) -> Bool {
        var goesOn = true
        for turn in 0..<turns { goesOn = bounds.takesTurn(sent: sent, start + step * turn) }
        return goesOn
    }

    /// The bounds of a response whose head is complete.
    private static func begun(_ now: MonotonicTime) -> AnswerBounds {
        var bounds = AnswerBounds()
        _ = takes("HTTP/1.1 200 OK\r\n", &bounds)
        _ = takes("\r\n", &bounds)
        _ = bounds.takesTurn(sent: 0, now)
        return bounds
    }

    @Test("Up to 64 turns within a second may bring no bytes", arguments: [63, 64, 65])
    func turns(count: Int) {
        let now = MonotonicTime.now
        var bounds = Self.begun(now)
        let goesOn = Self.idle(count, &bounds, from: now)
        #expect(goesOn == (count <= 64) && (bounds.excess == nil) == (count <= 64))
    }

    @Test("The count of idle turns restarts with a byte of either body, and after a second")
    func anew() {
        let now = MonotonicTime.now
        var bounds = Self.begun(now)
        var answers = [Self.idle(64, &bounds, from: now)]
        _ = bounds.takesBody(1)
        answers.append(Self.idle(65, &bounds, from: now))
        answers.append(Self.idle(65, &bounds, sent: 1, from: now))
        answers.append(Self.idle(65, &bounds, sent: 1, from: now + .milliseconds(1001)))
        #expect(answers == [true, true, true, true] && bounds.excess == nil)
    }

    @Test("Turns are not counted before the head is complete, nor when they are rare")
    func seldom() {
        let now = MonotonicTime.now
        var (headless, slow) = (AnswerBounds(), Self.begun(now))
        let answers = [Self.idle(1000, &headless, from: now), Self.idle(1000, &slow, from: now, every: .milliseconds(20))]
        #expect(answers == [true, true])
    }
}
