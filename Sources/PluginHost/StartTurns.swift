import LinuxSystem

/// The turns in which plugins are loaded into this process and their `create` is called: one at a time, so that none is blamed for what
/// another one changes, and no change is undone before it is seen.
struct StartTurns {
    /// How long one waits for those before it, which may never return.
    private static let longestWait = Duration.seconds(1)
    private static let shared = Monitor(StartTurns())

    private var running = 0
    private var begun = 0

    /// - Returns: what ``end(_:)`` needs; nil when another turn has not ended.
    static func begin() -> Int? {
        var patience = Patience(longestWait)
        return shared.wait(&patience) { turns in turns.running == 0 ? .some(turns.add()) : nil } ?? shared.withLock { $0.add() }
    }

    private mutating func add() -> Int? {
        running += 1
        begun += 1
        return running == 1 ? begun : nil
    }

    /// - Returns: whether no other turn was beside this one.
    @discardableResult static func end(_ turn: Int?) -> Bool {
        defer { shared.signal() }
        return shared.withLock { turns in
            turns.running -= 1
            return turns.begun == turn
        }
    }
}
