import LinuxSystem
import Testing

@Suite("Monitors")
struct MonitorTests {
    @Test("A wait for a condition ends when it is true, also after the deadline")
    func isTrue() {
        let value = Monitor(7)
        #expect(value.wait(until: .now + .seconds(3600)) { $0 == 7 })
        #expect(value.wait(until: MonotonicTime(nanoseconds: 0)) { $0 == 7 })
    }

    @Test("A wait for a condition ends at the deadline and not before", arguments: [0, 1, 20])
    func deadline(milliseconds: Int) {
        let deadline = MonotonicTime.now + .milliseconds(milliseconds)
        #expect(!Monitor(7).wait(until: deadline) { $0 == 8 })
        #expect(MonotonicTime.now >= deadline)
    }

    @Test("A wait for a condition sees what another thread changes")
    func changed() throws {
        let value = Monitor(0)
        let thread = try Thread("changes") {
            for number in 1...3 {
                value.withLock { $0 = number }
                value.signal()
            }
        }
        #expect(value.wait(until: .never) { $0 == 3 })
        thread.join()
    }
}
