import Foundation
import LinuxSystem
import Testing

@testable import SpoolStore
@testable import PluginHost
@testable import Receivers
@testable import Telemetry

/// Temporary read failures and late outcomes of removed receivers lose no profile.
@Suite("The spool with failures")
struct SpoolFailureTests {
    private static var up: ReceiverConfig { SpoolFixture.receiver("up") }

    /// Runs `body` while a file of the spool cannot be opened.
    private func without(_ file: String, _ spool: SpoolFixture, _ body: () throws -> Void) throws {
        try FileManager.default.moveItem(atPath: spool.path(file), toPath: spool.folder + "/away")
        try body()
        try FileManager.default.moveItem(atPath: spool.folder + "/away", toPath: spool.path(file))
        // The file is tried again after this time.
        spool.ahead += .seconds(2)
    }

    @Test("An index that temporarily cannot be read loses no profile")
    func unreadableIndex() throws {
        let spool = try SpoolFixture(Self.up)
        try spool.submit(2000)
        try spool.restart()
        var delivered: [UInt64] = []
        try without("0000000000000002.index", spool) { delivered = try spool.deliverAll() }
        #expect((1..<2000).contains(delivered.count))
        delivered += try spool.deliverAll()
        #expect(delivered.count == 2000 && Set(delivered).count == 2000)
        #expect(spool.account().dropped == [:])
    }

    @Test("A settled file that temporarily cannot be read causes neither a repeated nor a lost delivery")
    func unreadableSettled() throws {
        let spool = try SpoolFixture(Self.up)
        try spool.submit(200, body: 10)
        let opened = try spool.open(50)
        spool.settle(opened)
        var delivered = opened.map(\.sequence)
        try spool.restart()
        try without("0000000000000001.settled", spool) { delivered += try spool.deliverAll() }
        #expect(delivered.count == 50)
        delivered += try spool.deliverAll()
        #expect(delivered.count == 200 && Set(delivered).count == 200)
    }

    @Test("A late outcome of a removed receiver settles nothing for a new receiver of the same name")
    func lateOutcome() throws {
        let spool = try SpoolFixture(Self.up)
        try spool.submit(4, body: 20_000)
        let old = spool.receivers[0]
        let late = try spool.open(1)
        old.update { _ = $0.close() }
        old.detach()
        let new = SpoolFixture.makeReceiver(Self.up, spool.spool)
        new.attach()
        defer { new.detach() }
        let opened = try spool.open(new, 2)
        for delivery in opened { new.finish(delivery.token, DeliveryOutcome(status: .delivered)) }
        spool.settle(late)
        let rest = try spool.open(new)
        #expect(opened.first?.sequence == late.first?.sequence && rest.count == 2)
        #expect(spool.spool?.backlog(of: "up").profiles == 2)
    }

    @Test("A record that cannot be found is tried a few times, and then counted as damaged")
    func nowhere() throws {
        let spool = try SpoolFixture(Self.up)
        try spool.submit(3, body: 10_000)
        try spool.restart()
        let first = try spool.open(1)
        let state = try #require(spool.spool?.state)
        let segment = try #require(first.first?.entry.position).segment
        let kept = state.withLock { $0.segments.removeValue(forKey: segment) }
        #expect(try spool.open().isEmpty)
        state.withLock { $0.segments[segment] = kept }
        #expect(spool.account().dropped == [.damaged: 2])
        spool.settle(first)
        #expect(spool.isBalanced())
    }

    @Test("A record counts as damaged only after five disk failures in a row", arguments: [4, 5, 6])
    func failingReads(count: Int) throws {
        let spool = try SpoolFixture(Self.up)
        try spool.submit(1)
        let opened = try #require(try spool.open(1).first)
        let failures = spool.receivers[0].state.withLock { state in
            let handle = state.queue.handles[0]
            _ = state.judge(.system(SystemError("read", code: ENOMEM)), handle, opened.token)
            return (0..<count).map { _ in state.judge(.failing(SystemError("read", code: EIO)), handle, opened.token) }
        }
        let damaged = failures.count { if case .damaged = $0 { true } else { false } }
        #expect(damaged == max(0, count - 4))
        spool.settle([opened])
    }

    @Test("A read that ends after its instance was abandoned changes no profile")
    func givenUp() throws {
        let spool = try SpoolFixture(Self.up)
        try spool.submit(2)
        let receiver = spool.receivers[0]
        let opened = try #require(try spool.open(1).first)
        receiver.state.withLock { state in
            state.makeInstance(1, limit: 8)
            state.serve(1)
            _ = state.abandon(0)
            let handle = state.queue.handles[0]
            state.queue[handle].profile = nil
            let isWanted = state.loaded(opened.profile, handle, opened.token)
            #expect(!isWanted)
            #expect(state.queue[handle].profile == nil)
            state.unreadable(handle, opened.token, .moved, now: .now)
        }
        #expect(try spool.deliverAll().count == 2)
    }

    @Test("A profile that was being read when its instance ended takes no memory any more", arguments: [false, true])
    func endDuringRead(isProcess: Bool) throws {
        let spool = try SpoolFixture(Self.up)
        try spool.submit(3, body: 1000)
        try spool.restart()
        let receiver = spool.receivers[0]
        var opened = 0
        while opened < 2 {
            switch receiver.state.withLock({ $0.nextStep($0.config, now: .now) }) {
            case .done(.read(var read)):
                read.run()
                receiver.state.withLock { $0.refilled(read, now: .now) }
            case .done(.deliver): opened += 1
            default: throw NothingToRead()
            }
        }
        receiver.state.withLock { state in
            #expect(state.backlog?.resident ?? 0 >= 2000)
            state.makeInstance(1, limit: 8)
            if isProcess { _ = state.processEnded(0, PluginEnd(how: "it ended"), .now) } else { _ = state.abandon(0) }
            #expect(state.backlog?.resident == 0)
        }
    }

    @Test("Senders can submit while the disk is read, and a read that is overtaken adds no profile twice", arguments: [false, true])
    func slowRead(isOvertaken: Bool) throws {
        let spool = try SpoolFixture(SpoolFixture.receiver("up", QueueConfig(storage: .disk, maxBytes: 1 << 30, onFull: .reject)))
        try spool.submit(1000)
        try spool.restart()
        let receiver = spool.receivers[0]
        let step = receiver.state.withLock { $0.nextStep($0.config, now: .now) }
        guard case .done(.read(var read)) = step else { throw NothingToRead() }
        // The lock is not held here.
        #expect(try spool.submit(1) == [.accepted])
        read.run()
        if isOvertaken { #expect(receiver.spoolPositions(in: 1)?.isEmpty == false) }
        receiver.state.withLock { $0.refilled(read, now: .now) }
        let delivered = try spool.deliverAll()
        #expect(delivered.count == 1001 && delivered == delivered.sorted() && Set(delivered).count == 1001)
    }

    private struct NothingToRead: Error {}

    @Test("A segment stays for a receiver that is attached but has not read its backlog yet")
    func attaching() throws {
        let other = SpoolFixture.receiver("other")
        let spool = try SpoolFixture(Self.up, other)
        try spool.submit(20, body: 1000)
        try spool.deliverAll(at: 0)
        spool.settle(try spool.open(19, at: 1), at: 1)
        try spool.restart([Self.up])
        // This is the first half of Receiver.attach.
        let receiver = SpoolFixture.makeReceiver(other, spool.spool)
        let reader = try #require(spool.spool?.attach("other", receiver))
        defer { spool.spool?.detach(reader, receiver) }
        // The spool's thread would otherwise copy the rest of the first segment forward now.
        try spool.submit(100, body: 1000)
        #expect(spool.segments.first == "0000000000000001.records")
        #expect(reader.backlog.profiles == 1)
    }
}
