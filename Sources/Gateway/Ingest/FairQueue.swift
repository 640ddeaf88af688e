/// Jobs that wait in lanes, which take turns: who fills one lane makes nobody wait in another.
///
/// Lanes are nested: those of the first names take turns, and within each of them those of the second names, and so on.
struct FairQueue<Job> {
    enum Order { case oldestFirst, newestFirst }

    /// A lane with its jobs, or with lanes of its own.
    private struct Lane {
        var jobs: [Job] = []
        var lanes: [String: Lane] = [:]
        /// Whose turn it is in its own lanes.
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

    init(order: Order, maximumPerLane: Int = .max) { (self.order, self.maximumPerLane) = (order, maximumPerLane) }

    /// Adds a job.
    ///
    /// - Parameter lanes: the names of its lane and of those around it, the outermost first; as many for every job.
    /// - Returns: the oldest job of a lane that was full, which is in it no more.
    mutating func append(_ job: Job, lanes: [String]) -> Job? { root.append(job, lanes[...], maximum: maximumPerLane) }

    /// The next job of the lane whose turn it is.
    mutating func next() -> Job? { root.next(order) }

    mutating func removeAll() { root = Lane() }
}
