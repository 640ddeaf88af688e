/// A queue of jobs in lanes that take turns, so that many jobs in one lane do not delay the jobs of another.
///
/// Lanes are nested: the lanes named first take turns, within each of them the lanes named second, and so on.
package struct FairQueue<Job> {
    package enum Order { case oldestFirst, newestFirst }

    /// A lane, which holds either jobs or lanes of its own.
    private struct Lane {
        var jobs: [Job] = []
        var lanes: [String: Lane] = [:]
        /// The names of its own lanes, in the order of their turns.
        var turns: [String] = []

        var isEmpty: Bool { jobs.isEmpty && turns.isEmpty }

        mutating func append(_ job: Job, _ path: ArraySlice<String>, maximum: Int) -> Job? {
            guard let name = path.first else {
                jobs.append(job)
                return jobs.count > maximum ? jobs.removeFirst() : nil
            }
            if lanes[name] == nil { turns.append(name) }
            return lanes[name, default: Lane()].append(job, path.dropFirst(), maximum: maximum)
        }

        mutating func next(_ order: Order) -> Job? {
            guard !turns.isEmpty else {
                if jobs.isEmpty { return nil }
                return order == .oldestFirst ? jobs.removeFirst() : jobs.removeLast()
            }
            let name = turns.removeFirst()
            let job = lanes[name]?.next(order)
            if lanes[name]?.isEmpty == true { lanes[name] = nil } else { turns.append(name) }
            return job
        }
    }

    private let order: Order
    private let maximumPerLane: Int
    private var root = Lane()

    package init(order: Order, maximumPerLane: Int = .max) { (self.order, self.maximumPerLane) = (order, maximumPerLane) }

    /// Adds a job.
    ///
    /// - Parameter lanes: the names of the lanes around the job, the outermost first; the same number for every job.
    /// - Returns: the oldest job of the lane when the lane was full; it has been removed.
    package mutating func append(_ job: Job, lanes: [String]) -> Job? { root.append(job, lanes[...], maximum: maximumPerLane) }

    /// Removes and returns the next job of the lane whose turn it is.
    package mutating func next() -> Job? { root.next(order) }

    package mutating func removeAll() { root = Lane() }
}
