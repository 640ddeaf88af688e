extension ShareKey {
    /// Values by the shares of a queue that they belong to.
    ///
    /// A table with one share, as most queues have, hashes no key and allocates nothing. Generic code of another module is specialized
    /// only when it is public and inlinable.
    public struct Table<Value: Sendable>: Sendable {
        @usableFromInline var only: (key: ShareKey, value: Value)?
        /// All values, once there were two at a time, until there is none; empty while ``only`` is set.
        @usableFromInline var several: [ShareKey: Value] = [:]

        @inlinable public init() {}

        /// The value of a share; setting nil removes it.
        @inlinable public subscript(key: ShareKey) -> Value? {
            get {
                if let only { return only.key == key ? only.value : nil }
                return several.isEmpty ? nil : several[key]
            }
            set {
                if let only, only.key != key, let newValue {
                    several[only.key] = only.value
                    several[key] = newValue
                    self.only = nil
                } else if let only {
                    if only.key == key { self.only = newValue.map { (key, $0) } }
                } else if several.isEmpty {
                    only = newValue.map { (key, $0) }
                } else {
                    several[key] = newValue
                }
            }
        }

        /// All shares with their values, in no order.
        @inlinable public var all: [(key: ShareKey, value: Value)] { only.map { [$0] } ?? several.map { ($0.key, $0.value) } }

        /// Removes every value.
        ///
        /// - Parameter keepingCapacity: whether the memory is kept for other values.
        @inlinable public mutating func removeAll(keepingCapacity: Bool = false) {
            only = nil
            several.removeAll(keepingCapacity: keepingCapacity)
        }
    }
}
