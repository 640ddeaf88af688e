import LinuxSystem
import Profiles
import SpoolStore

/// The intake of a receiver's queue, within its bounds; every method runs with the receiver's lock held.
extension Receiver.State {
    /// Adds a profile, and evicts the oldest waiting ones until the queue's bounds hold.
    ///
    /// - Parameters:
    ///   - position: its position in the spool; nil when it is only in memory.
    ///   - isPromised: true when room was reserved for it.
    mutating func accept(
        _ profile: ReceivedProfile, at position: SpoolPosition? = nil, _ acknowledgement: Acknowledgement?, _ bounds: QueueConfig,
        isPromised: Bool = false, _ now: MonotonicTime
    ) {
        account.accepted += 1
        let size = position.map { Int($0.length) } ?? profile.byteCount
        if isClosed {
            // The queue is no longer processed; a profile in the spool is delivered after the next start.
            if let position { return keep(profile, at: position, acknowledgement) }
            return refuse(profile.sequence, .shutdown, at: nil, acknowledgement, .unavailable)
        }
        guard size <= bounds.maxBytes else {
            drops.count(.tooLarge)
            return refuse(profile.sequence, .tooLarge, at: position, acknowledgement, .failed(status: 0, isRetryable: false))
        }
        if bounds.onFull == .reject, !isPromised, !hasRoom(count: 1, bytes: size, bounds) {
            // Only receivers that are not required get here without a reservation.
            drops.count(.queueFull)
            return refuse(profile.sequence, .queueFull, at: position, acknowledgement, .failed(status: 0, isRetryable: true))
        }
        guard bounds.onFull == .reject || makeRoom(for: size, position?.share ?? profile.share, bounds, now) else {
            drops.count(.queueFull)
            return refuse(profile.sequence, .queueFull, at: position, acknowledgement, .failed(status: 0, isRetryable: true))
        }
        append(profile, at: position, size, acknowledgement, now)
    }

    /// Evicts the oldest waiting profiles until a new one fits; a share that has more than half of the queue evicts only its own.
    ///
    /// - Returns: false when the new profile is dropped instead, also because open profiles are never evicted.
    private mutating func makeRoom(for size: Int, _ share: ShareKey, _ bounds: QueueConfig, _ now: MonotonicTime) -> Bool {
        while true {
            let isOverBytes = queuedBytes + size > bounds.maxBytes
            let isOverCount = queuedCount >= bounds.maxProfiles
            guard isOverBytes || isOverCount else { return true }
            guard let oldest = oldestWaiting(now) else { return false }
            let own = used(by: share)
            let hasMost = isOverBytes && own.bytes > bounds.maxBytes / 2 || isOverCount && own.profiles > bounds.maxProfiles / 2
            if hasMost, queue[oldest].share != share { return false }
            drop(oldest, .queueFull)
            drops.count(.queueFull)
        }
    }

    /// Counts a profile that could not be stored in the spool as dropped.
    mutating func acceptUnstored(_ sequence: UInt64, _ acknowledgement: Acknowledgement?) {
        account.accepted += 1
        drops.count(.spoolFull)
        refuse(sequence, .spoolFull, at: nil, acknowledgement, .unavailable)
    }

    mutating func refuse(
        _ sequence: UInt64, _ reason: DropReason, at position: SpoolPosition?, _ acknowledgement: Acknowledgement?,
        _ settlement: Settlement
    ) {
        if let acknowledgement { settlements.append((acknowledgement, settlement)) }
        if let position { backlog?.refuse(position) }
        note(sequence, .dropped(reason, why: ""))
        account.drop(reason)
    }

    mutating func append(
        _ profile: ReceivedProfile, at position: SpoolPosition?, _ size: Int, _ acknowledgement: Acknowledgement?, _ now: MonotonicTime
    ) {
        guard let position, let behind = backlog?.count else { return queue.append(profile, acknowledgement, now: now) }
        guard behind == 0, queue.count < Backlog.mostEntries else {
            backlog?.append(position, sequence: profile.sequence, acknowledgement)
            if backlog?.hasTooManyWaiting == true { tellThoseBehindCursor() }
            return
        }
        backlog?.pass(position)
        let isKept = (backlog?.resident ?? 0) + size <= Backlog.keptBytes
        if isKept { backlog?.resident += size }
        queue.append(
            ReceiverQueue.Entry(
                isKept ? profile : nil, sequence: profile.sequence, byteCount: size, position: position, acknowledgement,
                acceptedAt: now))
    }

    /// Leaves a profile in the spool for the next start.
    mutating func keep(_ profile: ReceivedProfile, at position: SpoolPosition, _ acknowledgement: Acknowledgement?) {
        backlog?.append(position, sequence: profile.sequence, nil)
        if let acknowledgement { settlements.append((acknowledgement, .staysQueued)) }
    }

    /// Tells the senders that wait for profiles after the cursor that these stay in the spool.
    mutating func tellThoseBehindCursor() {
        for acknowledgement in backlog?.takeAcknowledgements() ?? [] { settlements.append((acknowledgement, .staysQueued)) }
    }

    /// The number of profiles that wait or are open, both in memory and after the spool's cursor.
    var queuedCount: Int { queue.count + (backlog?.count ?? 0) }
    var queuedBytes: Int { queue.byteCount + (backlog?.byteCount ?? 0) }

    /// The part of the queue that one share takes.
    private func used(by share: ShareKey) -> ShareUsage.Amount {
        let (known, behind) = (queue.shares[share], backlog?.shares[share] ?? ShareUsage.Amount())
        return ShareUsage.Amount(profiles: known.profiles + behind.profiles, bytes: known.bytes + behind.bytes)
    }

    /// The shares of all profiles in the queue.
    var shares: ShareUsage {
        var shares = queue.shares
        if let backlog { shares.add(backlog.shares) }
        return shares
    }

    func hasRoom(count: Int, bytes: Int, _ bounds: QueueConfig) -> Bool {
        queuedCount + reserved.profiles + count <= bounds.maxProfiles && queuedBytes + reserved.bytes + bytes <= bounds.maxBytes
    }

    /// Reserves room, so that a request is accepted by all of its receivers or by none.
    ///
    /// A profile that is larger than the whole queue needs no room: it is dropped when it is offered.
    mutating func reserve(_ sizes: [Int], _ bounds: QueueConfig) -> Bool {
        let (count, bytes) = Self.need(of: sizes, bounds)
        guard count == 0 || hasRoom(count: count, bytes: bytes, bounds) else { return false }
        reserved = (reserved.profiles + count, reserved.bytes + bytes)
        return true
    }

    mutating func release(_ sizes: [Int], _ bounds: QueueConfig) {
        let (count, bytes) = Self.need(of: sizes, bounds)
        reserved = (reserved.profiles - count, reserved.bytes - bytes)
    }

    private static func need(of sizes: [Int], _ bounds: QueueConfig) -> (count: Int, bytes: Int) {
        let fitting = sizes.filter { $0 <= bounds.maxBytes }
        return (fitting.count, fitting.reduce(0, +))
    }

    mutating func takeSettlements() -> Settlements {
        var taken = Settlements()
        swap(&taken, &settlements)
        return taken
    }
}
