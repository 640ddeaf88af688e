import Foundation

/// A value that other threads change, and a test waits for.
final class Watched<Value>: @unchecked Sendable {
    private let condition = NSCondition()
    private var value: Value

    struct NeverCame: Error {
        let seen: String
    }

    init(_ value: Value) { self.value = value }

    var current: Value { condition.withLock { value } }

    func update(_ change: (inout Value) -> Void) {
        condition.withLock {
            change(&value)
            condition.broadcast()
        }
    }

    /// Waits until `test` answers something; bounds a wait that would never end.
    func wait<T>(_ test: (Value) -> T?) throws -> T {
        let limit = Date(timeIntervalSinceNow: 60)
        condition.lock()
        defer { condition.unlock() }
        while true {
            if let found = test(value) { return found }
            guard condition.wait(until: limit) else { throw NeverCame(seen: "\(value)") }
        }
    }
}
