import HTTPServer
import LinuxSystem
import Receivers
import SpoolStore
import Synchronization
import Telemetry

/// Ends listeners and receivers that a new config no longer has, while the gateway continues.
extension RunningGateway {
    /// Ends listeners, access controls and receivers that ran before a change and do not run after it.
    func end(what change: SetupChange, without next: RunningSetup, _ deadline: MonotonicTime) {
        let old = change.old
        let listeners = old.listeners.filter { listener in !next.listeners.contains { $0 === listener } }
        stopAccepting(listeners)
        if let admin = old.admin, admin !== next.admin { stopAdmin(admin) }
        let replaced = change.replacedControls
        if !listeners.isEmpty || !replaced.isEmpty {
            shutdownTasks.start(ShutdownTask("listeners", until: deadline) { self.end(listeners, replaced, $0) })
        }
        for receiver in old.receivers where !next.receivers.contains(where: { $0 === receiver }) {
            leaving.withLock { $0.append(receiver) }
            shutdownTasks.start(ShutdownTask(receiver.name, until: deadline) { self.end(receiver, after: listeners, $0) })
        }
    }

    /// Closes the sockets once every event loop has accepted the connections that the kernel had queued.
    ///
    /// The last loop closes them: a loop that still watches a closed socket would be woken by another loop's copy of it.
    private func stopAccepting(_ listeners: [Listener]) {
        guard !listeners.isEmpty else { return }
        let (left, done) = (LoopCount(loops.count), LoopCount(loops.count))
        for listener in listeners { listener.beginClosing() }
        for loop in loops {
            loop.post { table in
                for listener in listeners { table.forget(listener) }
                if left.countDown() { for listener in listeners { listener.close() } }
                done.countDown()
            }
        }
        // Normally the sockets are closed before the reload is answered, unless a loop is busy for long.
        _ = done.isZero(until: .now + .seconds(1))
        for listener in listeners { Log.info("no longer listening", ["listener": listener.name]) }
    }

    private func stopAdmin(_ admin: Listener) {
        admin.beginClosing()
        postToAdmin { table in
            table.forget(admin)
            admin.close()
        }
    }

    /// Waits for the requests that removed listeners have begun, then until no password check of replaced access controls is waited
    /// for.
    private func end(_ listeners: [Listener], _ controls: [AccessControl], _ deadline: MovableDeadline) -> Bool {
        if !waitForConnections(listeners, deadline) {
            onEveryLoop { $0.refuseRest(of: listeners, because: "this listener was removed from the config") }
        }
        waitForLoops(deadline)
        for control in controls {
            _ = deadline.wait { control.isIdle }
            control.stop()
        }
        return true
    }

    private func waitForConnections(_ listeners: [Listener], _ deadline: MovableDeadline) -> Bool {
        deadline.wait(2) { listeners.allSatisfy { $0.connectionCount == 0 } }
    }

    /// Waits until every loop has finished its current work, so that no profile is offered to a removed receiver.
    private func waitForLoops(_ deadline: MovableDeadline) {
        let passed = LoopCount(allLoops.count)
        for loop in allLoops { loop.post { _ in passed.countDown() } }
        _ = deadline.wait(2) { passed.isZero(until: $0) }
    }

    /// Delivers the profiles of a removed receiver as far as the time allows, and ends its plugin instance.
    private func end(_ receiver: Receiver, after listeners: [Listener], _ deadline: MovableDeadline) -> Bool {
        _ = waitForConnections(listeners, deadline)
        waitForLoops(deadline)
        // Profiles that were already handed to the spool are offered to the receiver after their sync. However long the disk takes,
        // only this receiver's removal waits for it; a profile that came later would stay undelivered until the next start.
        spool?.flush()
        defer { leaving.withLock { leaving in leaving.removeAll { $0 === receiver } } }
        let hasEnded = receiver.drain("profiles of a removed receiver lost", deadline)
        receiver.detach()
        guard hasEnded else { return false }
        Log.info("receiver removed", ["receiver": receiver.name])
        return true
    }
}
