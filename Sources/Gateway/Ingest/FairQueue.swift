/// Jobs that wait in lanes, which take turns: who fills one lane makes nobody wait in another.
struct FairQueue<Job> {
    enum Order { case oldestFirst, newestFirst }

    private let order: Order
    private let maximumPerLane: Int
    private var lanes: [String: [Job]] = [:]
    private var turns: [String] = []

    init(order: Order, maximumPerLane: Int = .max) { (self.order, self.maximumPerLane) = (order, maximumPerLane) }

    /// Adds a job.
    ///
    /// - Returns: the oldest job of a lane that was full, which is in it no more.
    mutating func append(_ job: Job, lane: String) -> Job? {
        if lanes[lane, default: []].isEmpty { turns.append(lane) }
        lanes[lane, default: []].append(job)
        return lanes[lane, default: []].count > maximumPerLane ? lanes[lane]?.removeFirst() : nil
    }

    /// The next job of the lane whose turn it is.
    mutating func next() -> Job? {
        guard !turns.isEmpty else { return nil }
        let lane = turns.removeFirst()
        let job = order == .oldestFirst ? lanes[lane]?.removeFirst() : lanes[lane]?.removeLast()
        if lanes[lane]?.isEmpty == true { lanes[lane] = nil } else { turns.append(lane) }
        return job
    }

    mutating func removeAll() { (lanes, turns) = ([:], []) }
}
