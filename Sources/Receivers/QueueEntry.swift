import LinuxSystem
import PluginHost
import Profiles
import SpoolStore

extension ReceiverQueue {
    struct Entry {
        /// The profile; nil while it is only on disk.
        var profile: ReceivedProfile?
        let sequence: UInt64
        /// The bytes that it counts against the queue's bounds.
        let byteCount: Int
        /// The share of the queue that it counts against.
        let share: ShareKey
        /// Its position in the spool; nil when it is only in memory.
        var position: SpoolPosition?
        /// The dead letter that it is to become; nil while it may be delivered.
        var letter: Letter?
        /// The answer that waits for this profile to be settled, with `ack: delivered`.
        var acknowledgement: Acknowledgement?
        /// The number of attempts that were begun.
        var attempts = 0
        /// The number of consecutive failures to read it from the spool.
        var failedReads = 0
        /// The plugin's progress value, which it gets back at the next attempt.
        var progress: UInt64 = 0
        /// The refusals by the destination.
        var refusals = Refusals()
        let acceptedAt: MonotonicTime
        var place = Place.fresh
        /// Distinguishes the entry from later ones at the same index, and from its own earlier delays.
        var serial: UInt32 = 0

        init(
            _ profile: ReceivedProfile?, sequence: UInt64, byteCount: Int, position: SpoolPosition? = nil,
            _ acknowledgement: Acknowledgement?,
            acceptedAt: MonotonicTime
        ) {
            (self.profile, self.sequence, self.byteCount) = (profile, sequence, byteCount)
            share = position?.share ?? profile?.share ?? .unknown
            (self.position, self.acknowledgement, self.acceptedAt) = (position, acknowledgement, acceptedAt)
        }

        /// Makes it the place of a removed entry, which refers to nothing.
        mutating func clear() {
            (profile, position, letter, acknowledgement, refusals) = (nil, nil, nil, nil, Refusals())
            place = .unused
        }

        /// True when it has been attempted and is still to be delivered.
        var isTried: Bool { attempts > 0 && letter == nil }

        /// The attempt that has begun; mutating, because the compiler copies the whole entry for a getter that is not.
        var attempt: Attempt {
            mutating get { Attempt(profile: profile, position: position, sequence: sequence, attempts: attempts, progress: progress) }
        }
    }

    /// The parts of an entry that a delivery needs; the entry itself is larger and refers to more objects.
    struct Attempt {
        /// The profile; nil while it is only on disk.
        let profile: ReceivedProfile?
        /// Its position in the spool; nil when it is only in memory.
        let position: SpoolPosition?
        let sequence: UInt64
        /// The number of attempts that were begun, with this one.
        let attempts: Int
        /// The plugin's progress value of the last attempt.
        let progress: UInt64
    }

    /// The end of an entry's profile, Unix nanoseconds; nil while it is only on disk.
    func profileEnd(_ handle: Handle) -> Int64? { entries[Int(handle.index)].profile?.endedAt }

    /// Whether the list of recent profiles has left an entry's profile out.
    func isLeftOutOfRecent(_ handle: Handle) -> Bool { entries[Int(handle.index)].profile?.isLeftOutOfRecent == true }

    /// The contents of a dead letter, and the reason that is counted if it cannot be written.
    ///
    /// A class, because it is large, and few of the entries have one.
    final class Letter: Sendable {
        let outcome: DeliveryOutcome
        let reason: DropReason

        init(outcome: DeliveryOutcome, reason: DropReason) { (self.outcome, self.reason) = (outcome, reason) }
    }

    enum Place { case fresh, due, letter, delayed, open, unused }
}
