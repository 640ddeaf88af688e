import Synchronization

/// The file descriptors that the instances of all plugins may hold together. Thread-safe.
package final class PluginDescriptors: Sendable {
    /// The limit is the process's, so there is one object for it.
    package static let process = PluginDescriptors(limit: .max)

    private let limit: Atomic<Int>
    private let instances = Atomic<Int>(0)

    package init(limit: Int) { self.limit = Atomic(limit) }

    package func change(limit new: Int) { limit.store(new, ordering: .relaxed) }

    /// Counts a plugin instance, which may use its share from now on.
    func instanceBegan() { instances.wrappingAdd(1, ordering: .relaxed) }
    func instanceEnded() { instances.wrappingSubtract(1, ordering: .relaxed) }

    /// How many descriptors one instance may hold: an equal part for each instance, including those that do not ask for it.
    ///
    /// During a reload the old instances count beside the new ones.
    var instanceShare: Int { max(1, limit.load(ordering: .relaxed) / max(1, instances.load(ordering: .relaxed))) }
}
