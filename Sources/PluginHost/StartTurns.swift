import LinuxSystem
import Telemetry

/// The turns in which plugins are loaded into this process and their `create` is called: one at a time, so that none is blamed for what
/// another one changes, and no change is undone before it is seen.
struct StartTurns {
    /// How long one waits for those before it, which may never return.
    private static let longestWait = Duration.seconds(1)
    private static let shared = Monitor(StartTurns())

    private var running = 0
    private var begun = 0

    /// Begins a turn, and puts back what plugins have changed in the process outside of any.
    ///
    /// - Returns: what ``end(_:)`` needs; nil when another turn has not ended.
    static func begin() -> Int? {
        let own = ProcessState.own
        var patience = Patience(longestWait)
        let turn = shared.wait(&patience) { turns in turns.running == 0 ? .some(turns.add()) : nil } ?? shared.withLock { $0.add() }
        if turn != nil, let change = own.restore() {
            Log.warning("a plugin broke the contract after it was created", ["problem": "it changed \(change)"])
        }
        return turn
    }

    private mutating func add() -> Int? {
        running += 1
        begun += 1
        return running == 1 ? begun : nil
    }

    /// - Returns: whether no other turn was beside this one.
    static func end(_ turn: Int?) -> Bool {
        defer { shared.signal() }
        return shared.withLock { turns in
            turns.running -= 1
            return turns.begun == turn
        }
    }
}
