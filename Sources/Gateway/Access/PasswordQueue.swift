/// Passwords that wait to be looked at, one user after the other: who guesses at one name, or at names that do not exist,
/// makes nobody else wait.
struct PasswordQueue {
    struct Job: Sendable {
        let user: String
        let password: [UInt8]
        /// Stands for both.
        let digest: [UInt8]
    }

    /// How many may wait in one user's name; names that do not exist count as one user.
    static let maximumPerUser = 32

    private var lanes: [String: [Job]] = [:]
    private var order: [String] = []

    /// Takes a job, unless too many wait in that name.
    ///
    /// - Parameter isKnown: whether there is such a user.
    mutating func append(_ job: Job, isKnown: Bool) -> Bool {
        let lane = isKnown ? job.user : ""
        guard lanes[lane, default: []].count < Self.maximumPerUser else { return false }
        if lanes[lane, default: []].isEmpty { order.append(lane) }
        lanes[lane, default: []].append(job)
        return true
    }

    /// The next job: the oldest one of the user whose turn it is.
    mutating func next() -> Job? {
        guard !order.isEmpty else { return nil }
        let lane = order.removeFirst()
        guard let job = lanes[lane]?.removeFirst() else { return nil }
        if lanes[lane]?.isEmpty == true { lanes[lane] = nil } else { order.append(lane) }
        return job
    }
}
