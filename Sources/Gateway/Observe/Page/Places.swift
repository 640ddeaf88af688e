import Synchronization

/// A number of places that requests take and give back. Thread-safe.
final class Places: Sendable {
    let most: Int
    private let taken = Atomic<Int>(0)

    init(_ most: Int) { self.most = most }

    var areFree: Bool { taken.load(ordering: .relaxed) == 0 }

    /// Takes a place; false when there is none.
    func take() -> Bool {
        if taken.wrappingAdd(1, ordering: .relaxed).newValue <= most { return true }
        giveBack()
        return false
    }

    func giveBack() { taken.wrappingSubtract(1, ordering: .relaxed) }
}
