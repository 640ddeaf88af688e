import ConfigJSON
import LinuxSystem
import Synchronization

/// Who may send to one listener; from any thread.
///
/// Password hashes take tens of milliseconds, so they are computed on a thread of their own, and what came of them is
/// remembered: by a keyed digest, never by the password.
final class AccessControl: Sendable {
    enum Verdict {
        case allowed
        case refused(Response)
        /// A password that was not seen before; ``verify(_:_:)`` finds out.
        case unsettled(Credentials)
    }

    /// How many outcomes are remembered of each kind before all are forgotten, so that guesses cost no memory.
    static let maximumRemembered = 4096

    private struct State {
        var users: UserList?
        var tokens: TokenList?
        var stamps: [FileStamp?]
        /// Counts the readings of the files, so that an outcome under old ones is not remembered.
        var generation = 0
        var genuine: Set<[UInt8]> = []
        var wrong: Set<[UInt8]> = []
        var queue = PasswordQueue()
        /// Who waits for the outcome of which job.
        var waiting: [[UInt8]: [@Sendable (Verdict) -> Void]] = [:]
    }

    private let config: AuthConfig
    private let openPath: String?
    private let key = Secrets.randomKey()
    private let state: Mutex<State>
    /// Each job is a turn of the queue.
    private let worker = Worker<Void>("passwords", niceness: 10)

    /// Reads the files of `config`.
    ///
    /// - Parameter openPath: a path that everybody may ask for.
    init(_ config: AuthConfig, openPath: String? = nil) throws(FileProblems) {
        self.config = config
        self.openPath = openPath
        state = Mutex(try Self.read(config))
    }

    private static func read(_ config: AuthConfig) throws(FileProblems) -> State {
        let stamps = stamps(config)
        var state = State(stamps: stamps)
        var problems = FileProblems()
        state.users = problems.collect { () throws(Problem) in try config.users.map { source throws(Problem) in try UserList(source) } }
        state.tokens = problems.collect { () throws(Problem) in try config.tokens.map { source throws(Problem) in try TokenList(source) } }
        try problems.check()
        return state
    }

    private static func stamps(_ config: AuthConfig) -> [FileStamp?] { [config.users?.stamp, config.tokens?.stamp] }

    /// Decides on a request by its head; never blocks.
    func judge(_ head: RequestHead, hasCertificate: Bool) -> Verdict {
        if let openPath, head.equals(head.path, openPath) { return .allowed }
        if config.clientCertificate, hasCertificate { return .allowed }
        guard let value = head.value(of: "authorization") else { return .refused(refusal("credentials are required")) }
        guard let credentials = Credentials(value) else { return .refused(refusal(Self.notAccepted)) }
        return state.withLock { state in
            switch credentials {
            case .bearer(let token) where state.tokens?.contains(token) == true: .allowed
            case .basic(let user, let password) where state.users != nil: remembered(state, user, password) ?? .unsettled(credentials)
            default: .refused(refusal(Self.notAccepted))
            }
        }
    }

    private static let notAccepted = "the credentials are not accepted"

    private func remembered(_ state: borrowing State, _ user: String, _ password: [UInt8]) -> Verdict? {
        let digest = digest(user, password)
        if state.genuine.contains(digest) { return .allowed }
        return state.wrong.contains(digest) ? .refused(refusal(Self.notAccepted)) : nil
    }

    private func digest(_ user: String, _ password: [UInt8]) -> [UInt8] {
        Secrets.digest(Array(user.utf8) + [UInt8(ascii: ":")] + password, key: key)
    }

    /// RFC 9110 §11.6.1: a 401 says what would be taken; where nothing in a request would be, it is a 403.
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

    /// Has a password looked at by the thread for that; equal ones that come meanwhile share the outcome.
    ///
    /// - Parameter done: called once, on any thread.
    func verify(_ credentials: Credentials, _ done: @escaping @Sendable (Verdict) -> Void) {
        guard case .basic(let user, let password) = credentials else { return done(.refused(refusal(Self.notAccepted))) }
        let job = PasswordQueue.Job(user: user, password: password, digest: digest(user, password))
        guard let isFirst = state.withLock({ Self.enqueue(job, done, in: &$0) }) else { return done(.refused(Self.busy)) }
        guard isFirst else { return }
        do throws(SystemError) {
            try worker.submit(()) { [self] turns in for _ in turns { settleNext() } }
        } catch { finish(job.digest, .refused(Self.busy)) }
    }

    /// - Returns: whether the job is a new one; nil when there is no room for it.
    private static func enqueue(
        _ job: PasswordQueue.Job, _ done: @escaping @Sendable (Verdict) -> Void, in state: inout State
    ) -> Bool? {
        let isFirst = state.waiting[job.digest] == nil
        if isFirst, !state.queue.append(job, isKnown: state.users?.contains(job.user) == true) { return nil }
        state.waiting[job.digest, default: []].append(done)
        return isFirst
    }

    private static let busy = Response.error(503, "too many passwords wait to be verified")

    private func settleNext() {
        let (next, users, generation) = state.withLock { ($0.queue.next(), $0.users, $0.generation) }
        guard let job = next else { return }
        let isGenuine = users?.verify(job.user, job.password) == true
        state.withLock { state in
            guard state.generation == generation else { return }
            if isGenuine { Self.remember(job.digest, in: &state.genuine) } else { Self.remember(job.digest, in: &state.wrong) }
        }
        finish(job.digest, isGenuine ? .allowed : .refused(refusal(Self.notAccepted)))
    }

    private static func remember(_ digest: [UInt8], in set: inout Set<[UInt8]>) {
        if set.count >= maximumRemembered { set.removeAll() }
        set.insert(digest)
    }

    private func finish(_ digest: [UInt8], _ verdict: Verdict) {
        for done in state.withLock({ $0.waiting.removeValue(forKey: digest) }) ?? [] { done(verdict) }
    }

    // MARK: Life

    /// Reads the files again when one of them was changed, and forgets what was remembered; what cannot be used leaves
    /// everything as it was. May block on the disk.
    func refresh(listener: String) {
        let stamps = Self.stamps(config)
        guard stamps != state.withLock({ $0.stamps }) else { return }
        do throws(FileProblems) {
            let new = try Self.read(config)
            state.withLock { state in
                (state.users, state.tokens, state.stamps) = (new.users, new.tokens, new.stamps)
                (state.genuine, state.wrong) = ([], [])
                state.generation += 1
            }
            Log.info("users and tokens read again", ["listener": listener])
        } catch {
            state.withLock { $0.stamps = stamps }
            Log.error("the files of auth changed and cannot be used; the old ones stay", ["listener": listener, "error": "\(error)"])
        }
    }

    /// Ends the thread.
    func stop() { worker.stop() }
}
