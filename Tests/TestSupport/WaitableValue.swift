import Foundation

/// A value that threads change and wait for.
///
/// `@unchecked`: every access holds the condition's lock.
final class WaitableValue<Value>: @unchecked Sendable {
    private let condition = NSCondition()
    private var value: Value

    init(_ value: Value) { self.value = value }

    /// Reads or changes the value, and wakes all waiting threads.
    @discardableResult
    func update<R>(_ body: (inout Value) throws -> R) rethrows -> R {
        condition.lock()
        defer {
            condition.broadcast()
            condition.unlock()
        }
        return try body(&value)
    }

    var current: Value { condition.withLock { value } }

    /// Waits until `step` returns a value.
    ///
    /// - Parameter what: what is awaited, for the error that is thrown after the timeout.
    @discardableResult
    func wait<R>(
        for what: String = "a change", timeout: TimeInterval = Project.patience, _ step: (inout Value) throws -> R?
    ) throws -> R {
        let deadline = Date(timeIntervalSinceNow: timeout)
        condition.lock()
        defer { condition.unlock() }
        while true {
            if let result = try step(&value) { return result }
            guard condition.wait(until: deadline) else { throw NeverCame(what: what, seen: ["\(value)"]) }
        }
    }
}

/// Blocks other threads until a test opens it, or until the timeout.
final class Gate: Sendable {
    private let isOpen = WaitableValue(false)

    func open() { isOpen.update { $0 = true } }

    func wait() { _ = try? isOpen.wait(for: "the gate") { $0 ? true : nil } }
}

/// An error that says which event did not come in time, and what came instead.
struct NeverCame: Error, CustomStringConvertible {
    let what: String
    let seen: [String]
    var description: String { "never came: \(what)\nseen:\n" + seen.suffix(40).joined(separator: "\n").prefix(16_000) }
}

/// An error that says why a test cannot continue.
struct Obstacle: Error, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
}
