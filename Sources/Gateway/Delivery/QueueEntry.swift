import LinuxSystem

extension ReceiverQueue {
    struct Entry {
        /// nil while it is on disk alone.
        var profile: Profile?
        let sequence: UInt64
        /// What it counts against the queue's bounds.
        let byteCount: Int
        /// Whose share of the queue it takes.
        let share: ShareKey
        /// Where it is in the spool; nil when it is in memory alone.
        var position: SpoolPosition?
        /// Why it is to be put with the dead letters; nil while it may be delivered.
        var letter: Letter?
        /// Who waits for this profile to be settled, with `ack: delivered`.
        var acknowledgement: Acknowledgement?
        /// How many attempts were begun.
        var attempts = 0
        /// How often in a row it could not be read from the spool.
        var failedReads = 0
        /// What the plugin wants back at the next attempt.
        var progress: UInt64 = 0
        /// How the destination has refused it.
        var refusals = Refusals()
        let acceptedAt: MonotonicTime
        var place = Place.fresh
        var age = Links()
        var order = Links()
        /// Its place among the fresh ones of its share.
        var lane = Links()
        /// Tells a delayed entry from a later one at the same index.
        var serial: UInt32 = 0

        init(
            _ profile: Profile?, sequence: UInt64, byteCount: Int, position: SpoolPosition? = nil, _ acknowledgement: Acknowledgement?,
            acceptedAt: MonotonicTime
        ) {
            (self.profile, self.sequence, self.byteCount) = (profile, sequence, byteCount)
            share = position?.share ?? profile?.share ?? .unknown
            (self.position, self.acknowledgement, self.acceptedAt) = (position, acknowledgement, acceptedAt)
        }

        /// True when it has been attempted and is still to be delivered.
        var isTried: Bool { attempts > 0 && letter == nil }
    }

    /// What a dead letter says, and how it counts when it cannot become one.
    struct Letter: Sendable {
        let outcome: DeliveryOutcome
        let reason: DropReason
    }

    enum Place { case fresh, due, letter, delayed, open }

    struct Links {
        var previous: Int32 = -1
        var next: Int32 = -1
    }
}
