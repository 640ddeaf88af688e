import LinuxSystem
import PushWire
import Testing

@Suite("The bounds of an answer")
struct AnswerBoundsTests {
    /// An answer of so many bytes of head, then of body.
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

    @Test("64 KiB of head and 1 MiB of body are taken, and no byte more", arguments: [-1, 0, 1])
    func sizes(beyond: Int) {
        let head = Self.excess(head: [AnswerBounds.head - 100, 100 + beyond])
        let body = Self.excess(head: [AnswerBounds.head], body: [AnswerBounds.body - 1, 1 + beyond])
        for (isTaken, excess) in [head, body] { #expect(isTaken == (beyond <= 0) && (excess == nil) == (beyond <= 0)) }
    }

    @Test("A head has come once its blank line has, and an interim one is none")
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

    /// Has so many turns bring nothing.
    ///
    /// - Returns: what the last one was answered.
    private static func idle(
        _ turns: Int, _ bounds: inout AnswerBounds, sent: Int = 0, from start: MonotonicTime, every step: Duration = .zero
    ) -> Bool {
        var goesOn = true
        for turn in 0..<turns { goesOn = bounds.takesTurn(sent: sent, start + step * turn) }
        return goesOn
    }

    /// The bounds of an answer whose head has come.
    private static func begun(_ now: MonotonicTime) -> AnswerBounds {
        var bounds = AnswerBounds()
        _ = takes("HTTP/1.1 200 OK\r\n", &bounds)
        _ = takes("\r\n", &bounds)
        _ = bounds.takesTurn(sent: 0, now)
        return bounds
    }

    @Test("64 turns within a second may bring nothing", arguments: [63, 64, 65])
    func turns(count: Int) {
        let now = MonotonicTime.now
        var bounds = Self.begun(now)
        let goesOn = Self.idle(count, &bounds, from: now)
        #expect(goesOn == (count <= 64) && (bounds.excess == nil) == (count <= 64))
    }

    @Test("A byte of the body begins anew, and so do one of the request's body and a second")
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

    @Test("Turns are not counted before a head has come, nor where they are seldom")
    func seldom() {
        let now = MonotonicTime.now
        var (headless, slow) = (AnswerBounds(), Self.begun(now))
        let answers = [Self.idle(1000, &headless, from: now), Self.idle(1000, &slow, from: now, every: .milliseconds(20))]
        #expect(answers == [true, true])
    }
}
