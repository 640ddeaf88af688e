import LinuxSystem
import PluginHost
import Profiles
import SpoolStore
import Telemetry

/// The part of a receiver that connects it to the spool.
extension Receiver {
    /// Takes over the profiles that the spool holds for a receiver of this name; must be called once, before profiles are offered.
    package func attach() {
        guard let spool else { return }
        let owner = config.owner
        let count = update { state in
            // The receiver's lock is held, so that a segment which becomes readable now is counted only once.
            let backlog = Backlog(spool.attach(name, self))
            state.account.recovered = backlog.count
            state.backlog = backlog
            state.owner = owner
            state.keepsDeadLetters = deadLetters != nil
            return backlog.count
        }
        if count > 0 { Log.info("profiles recovered", ["receiver": name, "count": "\(count)"]) }
    }

    /// Disconnects the receiver from the spool, which keeps the unsettled profiles; nothing may be offered afterwards.
    package func detach() {
        guard let reader = state.withLock({ $0.backlog?.reader }) else { return }
        spool?.detach(reader, self)
    }

    /// Returns the profile of an entry that was just opened, reading it from the spool if it is not in memory; nil when that fails,
    /// and the entry is then no longer open.
    func profile(of entry: ReceiverQueue.Attempt, _ handle: ReceiverQueue.Handle, token: UInt?) -> ReceivedProfile? {
        if let profile = entry.profile { return profile }
        guard let position = entry.position, let reader = state.withLock({ $0.backlog?.reader }) else { return nil }
        do throws(SpoolQueue.ReadFailure) {
            let profile = try reader.read(position, sequence: entry.sequence)
            return state.withLock { $0.loaded(profile, handle, token) } ? profile : nil
        } catch {
            let failure = state.withLock { $0.judge(error, handle, token) }
            if case .damaged(let what) = failure { reader.report(position, entry.sequence, what) }
            update { $0.unreadable(handle, token, failure, now: .now) }
            return nil
        }
    }

    func bury(_ profile: ReceivedProfile, _ entry: ReceiverQueue.Entry, _ handle: ReceiverQueue.Handle, _ outcome: DeliveryOutcome) {
        let letter = DeadLetter(
            profile: profile, receiver: name, reason: outcome.reason, status: outcome.httpStatus, attempts: entry.attempts)
        deadLetters?.bury(letter) { [self] error in
            let retry = config.retry
            update { $0.buried(handle, error, retry, now: .now) }
            guard let error, let count = state.withLock({ $0.letterWarnings.count(.now) }) else { return }
            Log.error("a dead letter cannot be written", ["receiver": name, "error": "\(error)", "count": "\(count)"])
        }
    }
}

extension Receiver: SpoolClient {
    var spoolRule: OnFull { config.promisesRoom ? .reject : .dropOldest }

    var spoolOpen: [SpoolPosition] { state.withLock { state in state.open.deliveries.compactMap { state.queue[$0].position } } }

    var spoolSpared: Set<ShareKey> { state.withLock { $0.shares.underEqualPart } }

    func spoolNeedsRoom(in segment: UInt64, sparing spared: Set<ShareKey>) {
        // In small steps, because senders and the plugin need the lock too.
        while update(.now, { $0.dropSome(in: segment, sparing: spared, now: .now) }) {}
    }

    func spoolPositions(in segment: UInt64) -> [SpoolPosition]? { update { $0.positions(in: segment, now: .now) } }

    func spoolMoved(from segment: UInt64, _ places: [UInt32: SpoolPosition]) -> [SpoolPosition] {
        update { $0.move(from: segment, places) }
    }

    func spoolFound(_ segment: UInt64, profiles: Int, bytes: Int, _ shares: ShareUsage) {
        let isNew = update { state in
            guard state.backlog?.find(segment, profiles: profiles, bytes: bytes, shares) == true else { return false }
            state.account.recovered += profiles
            return true
        }
        if isNew { Log.info("profiles recovered", ["receiver": name, "count": "\(profiles)"]) }
    }
}
