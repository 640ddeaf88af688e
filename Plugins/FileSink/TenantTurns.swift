/// Jobs that wait, a lane for each tenant; the lanes take turns, so that who fills one makes nobody wait in another.
struct TenantTurns<Job> {
    private var lanes: [String: [(number: Int, job: Job)]] = [:]
    private var turns: [String] = []
    private var nextNumber = 0

    /// How many jobs have ever been added.
    var added: Int { nextNumber }
    /// The number of the oldest job that waits, by how many were added before it; nil when none waits.
    var oldest: Int? { lanes.values.compactMap(\.first?.number).min() }

    mutating func append(_ job: Job, lane: String) {
        if lanes[lane] == nil { turns.append(lane) }
        lanes[lane, default: []].append((nextNumber, job))
        nextNumber += 1
    }

    /// Takes jobs in turn: one at least, where one waits, then on until there are `count` or their weights are more than `weight`.
    mutating func take(count: Int, weight: Int, weigh: (Job) -> Int) -> [Job] {
        var taken: [Job] = []
        var sum = 0
        while !turns.isEmpty, taken.count < count {
            let lane = turns[0]
            guard let first = lanes[lane]?.first else { break }
            sum = sum.addingReportingOverflow(weigh(first.job)).partialValue
            if !taken.isEmpty, sum > weight || sum < 0 { break }
            taken.append(first.job)
            turns.removeFirst()
            lanes[lane]?.removeFirst()
            if lanes[lane]?.isEmpty == true { lanes[lane] = nil } else { turns.append(lane) }
        }
        return taken
    }
}
