import ConfigJSON
import LinuxSystem
import Synchronization
import Telemetry

/// Decides who may send to one listener. Thread-safe.
///
/// Hashing a password takes tens of milliseconds, so it is done on a separate thread, and the outcome is remembered under a keyed
/// digest, never under the password.
package final class AccessControl: Sendable {
    enum Verdict {
        case allowed
        case refused(Response)
        /// A password without a remembered outcome; ``verify(_:from:_:)`` decides.
        case unsettled(Credentials)
    }

    /// The most outcomes of each kind that are remembered; then all of that kind are forgotten, so that guesses cost no memory.
    static let maximumRemembered = 4096

    private struct State {
        var users: UserList?
        var tokens: TokenList?
        /// Counts how often the files were read, so that an outcome under older files is not remembered.
        var generation = 0
        var genuine: Set<[UInt8]> = []
        var wrong: Set<[UInt8]> = []
        /// The newest password first, so that a genuine login has a chance among guesses. Users of the file and all other names
        /// take turns; each user has a lane, with one inside for each address, and other names have a lane for each address.
        var queue = FairQueue<PasswordJob>(order: .newestFirst, maximumPerLane: AccessControl.maximumPerLane)
        /// The callbacks that wait for the outcome of a password, by its digest.
        var waiting: [[UInt8]: [@Sendable (Verdict) -> Void]] = [:]
    }

    private struct PasswordJob: Sendable {
        let user: String
        let password: [UInt8]
        /// The keyed digest of user and password.
        let digest: [UInt8]
    }

    /// The most passwords that may wait in a lane.
    static let maximumPerLane = 32
    /// The most requests that may wait for the outcome of one password.
    private static let maximumPerPassword = 256

    private let config: AuthConfig
    private let files: SourceFiles
    private let key = Secrets.randomKey()
    private let state: Mutex<State>
    /// Each job only makes the thread look at `queue`.
    private let worker = Worker<Void>("passwords", priority: .background(nice: 10))

    /// Reads the files of `config`.
    init(_ config: AuthConfig) throws(FileProblems) {
        self.config = config
        files = SourceFiles(config.users, config.tokens)
        state = Mutex(try Self.read(config))
    }

    private static func read(_ config: AuthConfig) throws(FileProblems) -> State {
        var state = State()
        var problems = FileProblems()
        state.users = problems.collect { () throws(Problem) in try config.users.map { source throws(Problem) in try UserList(source) } }
        state.tokens = problems.collect { () throws(Problem) in try config.tokens.map { source throws(Problem) in try TokenList(source) } }
        try problems.check()
        return state
    }

    /// Decides on a request by its head; never blocks.
    func judge(_ head: RequestHead, hasCertificate: Bool) -> Verdict {
        if config.clientCertificate, hasCertificate { return .allowed }
        let values = Array(head.values(of: "authorization"))
        guard !values.isEmpty else { return .refused(refusal("credentials are required")) }
        // Of two Authorization headers, another server could use the other one.
        guard values.count == 1, let credentials = Credentials(values[0]) else { return .refused(refusal(Self.notAccepted)) }
        switch credentials {
        case .bearer(let token) where state.withLock({ $0.tokens })?.contains(token) == true: return .allowed
        case .basic(let user, let password) where config.users != nil: return remembered(user, password) ?? .unsettled(credentials)
        default: return .refused(refusal(Self.notAccepted))
        }
    }

    private static let notAccepted = "the credentials are not accepted"

    private func remembered(_ user: String, _ password: [UInt8]) -> Verdict? {
        let digest = digest(user, password)
        let (isGenuine, isWrong) = state.withLock { ($0.genuine.contains(digest), $0.wrong.contains(digest)) }
        return isGenuine ? .allowed : isWrong ? .refused(refusal(Self.notAccepted)) : nil
    }

    private func digest(_ user: String, _ password: [UInt8]) -> [UInt8] {
        Secrets.digest(Array(user.utf8) + [UInt8(ascii: ":")] + password, key: key)
    }

    /// RFC 9110 §11.6.1: a 401 names the accepted schemes; when there is none, the answer is 403.
    private func refusal(_ message: String) -> Response {
        var challenges: [(name: String, value: String)] = []
        if config.users != nil { challenges.append(("WWW-Authenticate", "Basic realm=\"profile-gateway\", charset=\"UTF-8\"")) }
        if config.tokens != nil { challenges.append(("WWW-Authenticate", "Bearer realm=\"profile-gateway\"")) }
        guard !challenges.isEmpty else { return .error(403, "a client certificate is required") }
        var response = Response.error(401, message)
        response.headers += challenges
        return response
    }

    // MARK: Passwords

    /// Has a password verified on the thread; equal passwords that arrive meanwhile share the outcome.
    ///
    /// - Parameters:
    ///   - peer: the address of the sender.
    ///   - done: called once, on any thread.
    func verify(_ credentials: Credentials, from peer: PeerAddress, _ done: @escaping @Sendable (Verdict) -> Void) {
        guard case .basic(let user, let password) = credentials else { return done(.refused(refusal(Self.notAccepted))) }
        let job = PasswordJob(user: user, password: password, digest: digest(user, password))
        let isCrowded = state.withLock { $0.waiting[job.digest]?.count ?? 0 >= Self.maximumPerPassword }
        if isCrowded { return done(.refused(Self.busy)) }
        let given = state.withLock { state -> PasswordJob? in
            state.waiting[job.digest, default: []].append(done)
            guard state.waiting[job.digest]?.count == 1 else { return nil }
            let lanes = state.users?.has(user) == true ? ["users", user, "\(peer)"] : ["other names", "\(peer)", ""]
            return state.queue.append(job, lanes: lanes)
        }
        if let given { finish(given.digest, .refused(Self.busy)) }
        do throws(SystemError) {
            try worker.submit(()) { [self] _ in while settleNext() {} }
        } catch { finish(job.digest, .refused(Self.busy)) }
    }

    private static let busy = Response.error(503, "too many passwords wait to be verified")

    /// - Returns: false when no password waits.
    private func settleNext() -> Bool {
        let (next, users, generation) = state.withLock { ($0.queue.next(), $0.users, $0.generation) }
        guard let job = next else { return false }
        let isGenuine = users?.verify(job.user, job.password) == true
        state.withLock { state in
            guard state.generation == generation else { return }
            if isGenuine { Self.remember(job.digest, in: &state.genuine) } else { Self.remember(job.digest, in: &state.wrong) }
        }
        finish(job.digest, isGenuine ? .allowed : .refused(refusal(Self.notAccepted)))
        return true
    }

    private static func remember(_ digest: [UInt8], in set: inout Set<[UInt8]>) {
        if set.count >= maximumRemembered { set.removeAll() }
        set.insert(digest)
    }

    private func finish(_ digest: [UInt8], _ verdict: Verdict) {
        for done in state.withLock({ $0.waiting.removeValue(forKey: digest) }) ?? [] { done(verdict) }
    }

    // MARK: Files and end

    /// Reads the files again when one of them has changed, and forgets the remembered outcomes. May block on the disk.
    func refresh(listener: String) {
        files.refresh(
            listener: listener, success: "users and tokens read again",
            failure: "the files of auth changed and cannot be used; the old ones stay"
        ) { () throws(FileProblems) in
            let new = try Self.read(config)
            state.withLock { state in
                (state.users, state.tokens, state.genuine, state.wrong) = (new.users, new.tokens, [], [])
                state.generation += 1
            }
        }
    }

    /// Whether no password waits to be verified.
    package var isIdle: Bool { state.withLock { $0.waiting.isEmpty } }

    /// Ends the thread. Waits at most 200 ms for the current password, whose hash may be very costly; callbacks that wait for
    /// other passwords are not called.
    package func stop() {
        state.withLock { $0.queue.removeAll() }
        worker.stop(until: .now + .milliseconds(200))
    }
}
