import Foundation

/// A value that some threads change and others wait for.
///
/// `@unchecked`: every access holds the condition's lock.
final class Watched<Value>: @unchecked Sendable {
    private let condition = NSCondition()
    private var value: Value

    init(_ value: Value) { self.value = value }

    /// Reads or changes the value, and wakes whoever waits.
    @discardableResult
    func update<R>(_ body: (inout Value) throws -> R) rethrows -> R {
        condition.lock()
        defer {
            condition.broadcast()
            condition.unlock()
        }
        return try body(&value)
    }

    var current: Value { update { $0 } }

    /// Waits until `step` answers something.
    ///
    /// - Parameter what: what is waited for, for the message when it does not come.
    @discardableResult
    func wait<R>(for what: String, timeout: TimeInterval = Project.patience, _ step: (inout Value) throws -> R?) throws -> R {
        let deadline = Date(timeIntervalSinceNow: timeout)
        condition.lock()
        defer { condition.unlock() }
        while true {
            if let result = try step(&value) { return result }
            guard condition.wait(until: deadline) else { throw TimedOut(what: what, state: "\(value)") }
        }
    }
}

/// Holds other threads back until a test opens it; they go on by themselves when the test never does.
final class Gate: Sendable {
    private let isOpen = Watched(false)

    func open() { isOpen.update { $0 = true } }

    func wait() { _ = try? isOpen.wait(for: "the gate") { $0 ? true : nil } }
}

/// What was waited for did not come.
struct TimedOut: Error, CustomStringConvertible {
    let what: String
    let state: String

    var description: String { "waited in vain for \(what); there was: \(state.prefix(4000))" }
}

/// A sentence that says why a test cannot go on.
struct Obstacle: Error, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
}
