import Glibc
import LinuxSystem
import Synchronization
import Testing

@testable import PluginHost

@Suite("Descriptors that a plugin watches")
struct PluginLoopTests {
    /// Keeps the names of the calls that a loop has made, and acts on each of them.
    private final class Calls {
        let loop = PluginLoop()
        var names: [String] = []
        var deed: (String) -> Void = { _ in }

        func made(_ name: String) {
            names.append(name)
            deed(name)
        }

        /// Waits for events, and makes the calls.
        func round() throws {
            #expect(loop.wait(until: .now + .seconds(30)))
            loop.makeCalls()
        }
    }

    /// A call's argument.
    private final class Target {
        let calls: Calls
        let name: String

        init(_ calls: Calls, _ name: String) { (self.calls, self.name) = (calls, name) }

        var pointer: UnsafeMutableRawPointer { Unmanaged.passUnretained(self).toOpaque() }

        static func call(_ pointer: UnsafeMutableRawPointer?) {
            guard let pointer else { return }
            let target = Unmanaged<Target>.fromOpaque(pointer).takeUnretainedValue()
            target.calls.made(target.name)
        }

        func watch(_ descriptor: Int32, for events: Int32 = POLLIN) -> Int32 {
            calls.loop.watch(descriptor, UInt32(events), { argument, _ in Target.call(argument) }, pointer)
        }
    }

    /// An event whose descriptor can be read from the beginning, or never.
    private func event(isReady: Bool) throws -> Wakeup {
        let event = try Wakeup()
        if isReady { event.signal() }
        return event
    }

    @Test("A call that forgets another ready descriptor prevents its call, also when something else is watched instead")
    func forgotten() throws {
        let calls = Calls()
        let first = try event(isReady: true)
        let second = try event(isReady: true)
        let other = try event(isReady: false)
        let targets = ["first", "second", "other"].map { Target(calls, $0) }
        #expect(targets[0].watch(first.descriptor) == 0 && targets[1].watch(second.descriptor) == 0)
        calls.deed = { name in
            // Whichever is called first.
            let forgotten = name == "first" ? second : first
            #expect(targets[2].watch(forgotten.descriptor, for: 0) == 0)
            #expect(targets[2].watch(other.descriptor) == 0)
        }
        try calls.round()
        // The closure refers to the targets, and these to the calls.
        calls.deed = { _ in }
        #expect(calls.names == ["first"] || calls.names == ["second"])
    }

    @Test("A place is used again and again, and each event is told to its own descriptor")
    func again() throws {
        let calls = Calls()
        let idle = try event(isReady: false)
        let still = Target(calls, "idle")
        #expect(still.watch(idle.descriptor) == 0)
        // Two at a time, so that a place that is in use must not be given again.
        for turn in 1...5 {
            let events = [try event(isReady: true), try event(isReady: true)]
            let targets = ["\(turn)a", "\(turn)b"].map { Target(calls, $0) }
            for (target, event) in zip(targets, events) { #expect(target.watch(event.descriptor) == 0) }
            calls.names = []
            try calls.round()
            #expect(calls.names.sorted() == ["\(turn)a", "\(turn)b"])
            for (target, event) in zip(targets, events) { #expect(target.watch(event.descriptor, for: 0) == 0) }
        }
    }

    @Test("The call after those of all ready descriptors is made once a round, until it is taken back")
    func after() throws {
        let calls = Calls()
        let events = [try event(isReady: true), try event(isReady: true)]
        let targets = ["a", "b", "after"].map { Target(calls, $0) }
        for (target, event) in zip(targets, events) { #expect(target.watch(event.descriptor) == 0) }
        #expect(calls.loop.callAfterReady({ Target.call($0) }, targets[2].pointer) == 0)
        try calls.round()
        try calls.round()
        #expect(calls.names.count == 6 && calls.names[2] == "after" && calls.names[5] == "after", "\(calls.names)")
        #expect(calls.loop.callAfterReady(nil, nil) == 0)
        try calls.round()
        #expect(calls.names.count == 8 && !calls.names[6...].contains("after"), "\(calls.names)")
    }
}
