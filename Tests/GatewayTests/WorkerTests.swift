import Foundation
import Testing

@testable import LinuxSystem

@Suite("A worker")
struct WorkerTests {
    @Test("Stopping says whether the thread still had something to do, also when the time is over")
    func stop() throws {
        #expect(Worker<Int>("never").stop(until: .now))

        let idle = Worker<Int>("idle")
        let batches = Monitor(0)
        try idle.submit(1) { _ in
            batches.withLock { $0 += 1 }
            batches.signal()
        }
        batches.wait { $0 == 1 ? .done(()) : .again(.never) }
        while idle.isWorking { sched_yield() }
        #expect(idle.stop(until: MonotonicTime(nanoseconds: 0)))

        let busy = Worker<Int>("busy")
        let mayEnd = Monitor(false)
        try busy.submit(1) { _ in mayEnd.wait { $0 ? .done(()) : .again(.never) } }
        #expect(!busy.hasEnded(until: .now))
        #expect(!busy.stop(until: .now))
        mayEnd.withLock { $0 = true }
        mayEnd.signal()
    }

    @Test("A worker that is told to stop does the jobs that it has, and then has ended")
    func lastJobs() throws {
        let worker = Worker<Int>("last")
        let (mayBegin, done) = (Monitor(false), Monitor<[Int]>([]))
        for job in 1...3 {
            try worker.submit(job) { jobs in
                mayBegin.wait { $0 ? .done(()) : .again(.never) }
                done.withLock { $0 += jobs }
            }
        }
        worker.beginStop()
        mayBegin.withLock { $0 = true }
        mayBegin.signal()
        #expect(worker.hasEnded(until: .now + .seconds(60)))
        #expect(done.withLock { $0 } == [1, 2, 3])
        #expect(worker.stop(until: .now))
        #expect(throws: SystemError.self) { try worker.submit(4) { _ in } }
    }
}
