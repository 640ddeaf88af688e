import Glibc
package import LinuxSystem
import ProfileArchive
import Profiles
package import SpoolStore
import Synchronization
import Telemetry

/// The store of profiles that receivers have given up: `<folder>/<receiver>` is an archive that `gateway replay` can send again.
///
/// A separate thread writes and syncs all waiting letters together. Each receiver's letters are limited in bytes and in age; the
/// oldest are removed.
package final class DeadLetters: Sendable {
    /// Called once when the letter is durable, or with the error that prevented it; this class does not retry.
    typealias Done = @Sendable (SystemError?) -> Void

    private enum Job: Sendable {
        case bury(DeadLetter, Done)
        /// Scan folders that have not been scanned completely, and remove letters beyond a limit.
        case look
    }

    /// The figures of one receiver's letters, for metrics.
    private struct Account {
        var count = 0
        var byteCount = 0
        var removed = 0
        /// False while some of the existing files could not be read.
        var isWhole = true
    }

    /// The clocks that letters are dated by, in Unix nanoseconds.
    struct Clocks: Sendable {
        /// The time written to the metadata.
        var wall: @Sendable () -> Int64 = { MonotonicTime.unixNanoseconds }
        /// The time that ages are computed from; it is not affected by setting the wall clock, which thus removes no letters.
        var age: @Sendable () -> Int64 = { SteadyTime.unixNanoseconds }
    }

    private static let folder = "dead-letter"

    private let directory: DataDirectory
    private let limits: DeadLetterConfig
    private let clocks: Clocks
    private let openFiles: @Sendable () -> Int
    private let worker = Worker<Job>("dead-letters")
    /// The folders by name; used only by the worker's thread.
    private let receivers = Mutex<[String: DeadLetterFolder]>([:])
    private let accounts = Mutex<[String: Account]>([:])
    private let nextLook = Atomic<Int64>(0)
    private let isStopped = Atomic<Bool>(false)
    /// False while the folder that contains all letters could not be listed.
    private let isListed = Atomic<Bool>(true)

    private static let lookInterval = Duration.seconds(60)
    /// The most letters and bytes that are written before the limits are enforced, so that a flood exceeds them by no more than
    /// that.
    private static let largestBatch = (letters: 256, bytes: 16 << 20)

    /// - Parameters:
    ///   - directory: the data directory; an existing folder `dead-letter` in it is scanned now.
    ///   - openFiles: the most files that may be open at a time.
    package convenience init(in directory: DataDirectory, limits: DeadLetterConfig, openFiles: @escaping @Sendable () -> Int) {
        self.init(in: directory, limits: limits, clocks: Clocks(), openFiles: openFiles)
    }

    init(
        in directory: DataDirectory, limits: DeadLetterConfig, clocks: Clocks, openFiles: @escaping @Sendable () -> Int = { 32 }
    ) {
        (self.directory, self.limits, self.clocks, self.openFiles) = (directory, limits, clocks, openFiles)
        do throws(SystemError) {
            guard try directory.root().status(of: Self.folder) != nil else { return }
        } catch { Log.warning("dead letters cannot be read; it is tried again", ["error": "\(error)"]) }
        look()
    }

    /// Writes a letter.
    ///
    /// - Parameter done: called once, from the worker's thread.
    func bury(_ letter: DeadLetter, done: @escaping Done) {
        guard !isStopped.load(ordering: .relaxed) else { return done(SystemError("write a dead letter", code: ECANCELED)) }
        do throws(SystemError) {
            try worker.submit(.bury(letter, done)) { [self] in work($0) }
        } catch { done(error) }
    }

    /// Called periodically, so that letters that are too old are removed within a minute.
    package func tick(now: MonotonicTime) {
        guard nextLook.load(ordering: .relaxed) <= now.nanoseconds else { return }
        nextLook.store((now + Self.lookInterval).nanoseconds, ordering: .relaxed)
        let isWanted = accounts.withLock { $0.values.contains { $0.count > 0 || !$0.isWhole } }
        if isWanted || !isListed.load(ordering: .relaxed) { look() }
    }

    private func look() {
        guard !isStopped.load(ordering: .relaxed) else { return }
        do throws(SystemError) {
            try worker.submit(.look) { [self] in work($0) }
        } catch { Log.warning("the thread for dead letters cannot be started", ["error": "\(error)"]) }
    }

    /// Writes the letters handed over so far and ends the thread; letters that come later are refused.
    package func stop() {
        isStopped.store(true, ordering: .relaxed)
        worker.stop()
    }

    // MARK: Metrics

    /// The number of a receiver's letters.
    package func count(of receiver: String) -> Int { account(of: receiver).count }
    /// The bytes of their files.
    package func bytes(of receiver: String) -> Int { account(of: receiver).byteCount }
    /// The number of letters that this run has removed to enforce the limits.
    package func removed(of receiver: String) -> Int { account(of: receiver).removed }

    private func account(of receiver: String) -> Account { accounts.withLock { $0[Self.name(of: receiver)] ?? Account() } }

    private static func name(of receiver: String) -> String { FileName.component(receiver, ifEmpty: "unnamed") }

    // MARK: On the worker's thread

    private func work(_ jobs: [Job]) {
        var letters: [(DeadLetter, Done)] = []
        var isLook = false
        for job in jobs {
            switch job {
            case .bury(let letter, let done): letters.append((letter, done))
            case .look: isLook = true
            }
        }
        if isLook { lookAtAll() }
        for (name, letters) in Dictionary(grouping: letters, by: { Self.name(of: $0.0.receiver) }) {
            for batch in Self.batches(letters) { bury(batch, name) }
        }
    }

    private static func batches(_ letters: [(DeadLetter, Done)]) -> [[(DeadLetter, Done)]] {
        var batches: [[(DeadLetter, Done)]] = []
        var bytes = 0
        for letter in letters {
            bytes += letter.0.profile.byteCount
            if batches.isEmpty || batches[batches.count - 1].count == largestBatch.letters || bytes > largestBatch.bytes {
                batches.append([])
                bytes = letter.0.profile.byteCount
            }
            batches[batches.count - 1].append(letter)
        }
        return batches
    }

    private func bury(_ letters: [(DeadLetter, Done)], _ name: String) {
        let (time, age) = (clocks.wall(), clocks.age())
        do throws(SystemError) {
            let results = try update(name) {
                $0.store(letters.map(\.0), at: time, age: age, openFiles: openFiles(), limit: limits.maxBytes)
            }
            for ((_, done), error) in zip(letters, results) { done(error) }
        } catch { for (_, done) in letters { done(error) } }
    }

    private func lookAtAll() {
        let known = receivers.withLock { Array($0.keys) }
        do throws(SystemError) {
            let found = try folders()
            for name in Set(known + found) {
                try update(name) { letters in
                    letters.forgetMissing()
                    if !letters.isWhole { letters.scan() }
                }
            }
            isListed.store(true, ordering: .relaxed)
        } catch {
            isListed.store(false, ordering: .relaxed)
            Log.warning("dead letters cannot be read; it is tried again", ["error": "\(error)"])
        }
    }

    private func folders() throws(SystemError) -> [String] {
        do throws(SystemError) { return try directory.root().descend(Self.folder).list().folders } catch {
            if error.code == ENOENT { return [] }
            throw error
        }
    }

    /// Changes a receiver's letters, scanning them first if they are not known yet, and enforces the limits.
    ///
    /// - Throws: an error when the data directory cannot be opened; nothing has been done then.
    private func update<R>(_ name: String, _ body: (inout DeadLetterFolder) -> R) throws(SystemError) -> R {
        // The data directory may have been opened again as another folder.
        let archive = Archive("\(Self.folder)/\(name)", in: try directory.root(), modes: limits.modes)
        var letters = receivers.withLock { $0.removeValue(forKey: name) } ?? DeadLetterFolder(archive)
        letters.archive = archive
        let result = body(&letters)
        // The limits are enforced after writing, so that no letter is removed for one that cannot be written.
        let old = letters.removeBuried(before: clocks.age().subtractingSaturated(limits.maxAge.inNanoseconds))
        let removed = old + letters.makeRoom(limits.maxBytes)
        accounts.withLock { accounts in
            let before = accounts[name]?.removed ?? 0
            accounts[name] = Account(
                count: letters.count, byteCount: letters.byteCount, removed: before + removed, isWhole: letters.isWhole)
        }
        receivers.withLock { $0[name] = letters }
        return result
    }
}
