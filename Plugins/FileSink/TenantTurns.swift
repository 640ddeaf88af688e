/// Waiting jobs in one lane per tenant; jobs are taken from the lanes in turn, so that a tenant with many jobs does not delay the
/// others.
struct TenantTurns<Job> {
    private var lanes: [String: [(number: Int, job: Job)]] = [:]
    private var turns: [String] = []
    private var nextNumber = 0

    /// How many jobs were added so far.
    var added: Int { nextNumber }
    /// The number of the oldest waiting job, counting from 0 in the order of adding; nil when none waits.
    var oldest: Int? { lanes.values.compactMap(\.first?.number).min() }

    mutating func append(_ job: Job, lane: String) {
        if lanes[lane] == nil { turns.append(lane) }
        lanes[lane, default: []].append((nextNumber, job))
        nextNumber += 1
    }

    /// Takes jobs from the lanes in turn: at least one if one waits, at most `count`, and no more once their weight would exceed
    /// `weight`.
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
