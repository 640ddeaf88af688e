import Foundation
import LinuxSystem
import Testing

@testable import Receivers
@testable import SpoolStore
@testable import Telemetry
@testable import TestSupport

@Suite("The spool when clocks are set")
struct SpoolClockTests {
    private static let hour: Int64 = 3_600_000_000_000

    @Test("Setting the wall clock does not age profiles on disk, and begins a new segment", arguments: [-3, 3])
    func step(hours: Int64) throws {
        let queue = QueueConfig(storage: .disk, maxBytes: 1 << 30, maxAge: .seconds(3600))
        let spool = try SpoolFixture(SpoolFixture.receiver("up", queue), spool: SpoolConfig(minFreeBytes: 0, segmentBytes: 8 << 20))
        try spool.submit(Backlog.mostEntries + 900, body: 10)
        #expect(spool.segments.count == 1)
        spool.step.update { $0 = hours * Self.hour }
        try spool.submit(600, body: 10)
        #expect(spool.segments.count == 2)
        #expect(try spool.deliverAll().count == Backlog.mostEntries + 1500)
        #expect(spool.account().dropped == [:])
        // Profiles behind the cursor do expire.
        try spool.submit(Backlog.mostEntries + 10, body: 10)
        spool.ahead = .seconds(3601)
        while spool.pass(spool.receivers[0]) == nil || spool.queued() > 0 {}
        #expect(spool.account().dropped == [.maxAge: Backlog.mostEntries + 10])
    }

    @Test("Profiles of an earlier process are as old as the wall clock says at the start")
    func earlier() throws {
        let queue = QueueConfig(storage: .disk, maxBytes: 1 << 30, maxAge: .seconds(3600))
        let spool = try SpoolFixture(SpoolFixture.receiver("up", queue))
        spool.step.update { $0 = -2 * Self.hour }
        try spool.submit(3)
        try spool.restart { spool.step.update { $0 = 0 } }
        while spool.pass(spool.receivers[0]) == nil || spool.queued() > 0 {}
        #expect(spool.account().dropped == [.maxAge: 3])
    }

    @Test("A change of less than a second is no step, nor is a wall clock beyond 2262", arguments: [-1, 1])
    func slew(sign: Int64) {
        let wall = WaitableValue<Int64>(0)
        let clock = SpoolClock { MonotonicTime.now.nanoseconds.addingSaturated(wall.current) }
        wall.update { $0 = sign * 900_000_000 }
        #expect(!clock.hasStepped())
        wall.update { $0 = sign * 1_100_000_000 }
        #expect(clock.hasStepped() && !clock.hasStepped())
        wall.update { $0 = .max }
        #expect(!clock.hasStepped())
        let late = SpoolClock { .max }
        #expect(late.now > 0 && !late.hasStepped())
    }

    @Test("Times in the future or out of range are clamped")
    func times() {
        let now = MonotonicTime(nanoseconds: 1_000)
        #expect(SpoolClock.time(of: 500, offset: 0, now: now).nanoseconds == 500)
        #expect(SpoolClock.time(of: 5_000, offset: 0, now: now) == now)
        #expect(SpoolClock.time(of: .max, offset: .min, now: now) == now)
        #expect(SpoolClock.time(of: .min, offset: .max, now: now) < now)
    }

    @Test("Sums and differences saturate")
    func saturated() {
        #expect(Int64.max.addingSaturated(1) == .max && Int64.min.addingSaturated(-1) == .min && Int64(2).addingSaturated(3) == 5)
        #expect(Int64.max.subtractingSaturated(-1) == .max && Int64.min.subtractingSaturated(1) == .min)
        #expect(Int64(2).subtractingSaturated(3) == -1)
    }

    @Test(
        "A file's date beyond the range of nanoseconds is clamped to the last time",
        arguments: [9_223_372_036, 9_223_372_037, 13_569_465_600])
    func lateFile(seconds: Int) throws {
        let folder = try TestFolder()
        let path = try folder.file("late")
        let time = timespec(tv_sec: seconds, tv_nsec: 0)
        try #require(utimensat(AT_FDCWD, path, [time, time], 0) == 0)
        let modified = try #require(try FileStatus(of: path)).modifiedAt
        #expect(modified == (seconds > 9_223_372_036 ? .max : 9_223_372_036_000_000_000))
    }

    @Test("A throttled log line is written once in ten seconds, with the number of lines that it stands for")
    func throttle() {
        var throttle = LogThrottle()
        let start = MonotonicTime.now
        #expect(throttle.count(start) == 1)
        for _ in 0..<99 { #expect(throttle.count(start + .milliseconds(9_999)) == nil) }
        #expect(throttle.count(start + .seconds(10)) == 100)
        #expect(throttle.count(start + .seconds(19)) == nil)
    }
}
