import PluginABI

/// Where the endpoints of a listener hand their profiles to: the fan-out, and the answer that the listener promises.
struct ProfileIntake: Sendable {
    let ack: AckMode
    let keepHeaders: [String]
    let fanOut: FanOut
    let counters: ListenerCounters

    /// The message of a 504: the sender need not send again.
    static let timedOut = "no outcome yet from every required receiver; the profile stays queued and is delivered later"

    /// Submits the profiles of one request.
    ///
    /// - Parameters:
    ///   - success: what the sender gets when all is well.
    ///   - failure: writes an error from a status and a message, as the request's API does.
    /// - Returns: the answer, or nil when it goes through `reply` once every required receiver has settled.
    func submit(
        _ profiles: [Profile], _ reply: Reply, success: Response, failure: @escaping @Sendable (Int, String) -> Response
    ) -> Response? {
        for profile in profiles { counters.profiles[profile.api == .push ? 1 : 0].add() }
        guard ack == .delivered else {
            return fanOut.submit(profiles).map { Self.full($0, failure) } ?? success
        }
        let full = fanOut.submit(profiles) { outcome in
            reply.send(outcome.map { Self.failed($0, failure) } ?? success)
        }
        return full.map { Self.full($0, failure) }
    }

    private static func full(_ receiver: String, _ failure: (Int, String) -> Response) -> Response {
        failure(503, "the queue of receiver \(quotedForPeople(receiver)) is full")
    }

    /// The destination's own status where it has one; never its text, which could name what a sender must not know.
    private static func failed(_ outcome: Acknowledgement.Failure, _ failure: (Int, String) -> Response) -> Response {
        let receiver = quotedForPeople(outcome.receiver)
        guard 400...599 ~= outcome.status else { return failure(500, "receiver \(receiver) could not deliver the profile") }
        return failure(outcome.status, "receiver \(receiver) did not deliver the profile: status \(outcome.status)")
    }
}
