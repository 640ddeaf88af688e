import LinuxSystem

/// How profiles come into a receiver's queue, within its bounds; with its lock held.
extension Receiver.State {
    /// Takes a profile in and evicts the oldest that wait until the queue's bounds hold.
    ///
    /// - Parameters:
    ///   - position: where it is in the spool; nil when it is in memory alone.
    ///   - isPromised: true when room was reserved for it.
    mutating func accept(
        _ profile: Profile, at position: SpoolPosition? = nil, _ acknowledgement: Acknowledgement?, _ bounds: QueueConfig,
        isPromised: Bool = false, _ now: MonotonicTime
    ) {
        account.accepted += 1
        let size = position.map { Int($0.length) } ?? profile.byteCount
        if isClosed {
            // Too late for the last look at the queue; what is in the spool is delivered after the next start.
            if let position { return keep(profile, at: position, acknowledgement) }
            return refuse(.shutdown, at: nil, acknowledgement, .failed(status: 503, isRetryable: true))
        }
        guard size <= bounds.maxBytes else {
            drops.count(.tooLarge)
            return refuse(.tooLarge, at: position, acknowledgement, .failed(status: 0, isRetryable: false))
        }
        if bounds.onFull == .reject, !isPromised, !hasRoom(count: 1, bytes: size, bounds) {
            // Only a receiver that is not required comes here without room.
            drops.count(.queueFull)
            return refuse(.queueFull, at: position, acknowledgement, .failed(status: 0, isRetryable: true))
        }
        guard bounds.onFull == .reject || makeRoom(for: size, position?.share ?? profile.share, bounds, now) else {
            drops.count(.queueFull)
            return refuse(.queueFull, at: position, acknowledgement, .failed(status: 0, isRetryable: true))
        }
        append(profile, at: position, size, acknowledgement, now)
    }

    /// Evicts the oldest that wait until a newcomer fits; but who has more than half of the queue pushes nobody else out.
    ///
    /// - Returns: false when the newcomer is the one that is dropped, also because what is open is never evicted.
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

    /// Counts a profile that could not be stored in the spool.
    mutating func acceptUnstored(_ acknowledgement: Acknowledgement?) {
        account.accepted += 1
        drops.count(.spoolFull)
        refuse(.spoolFull, at: nil, acknowledgement, .failed(status: 503, isRetryable: true))
    }

    mutating func refuse(
        _ reason: DropReason, at position: SpoolPosition?, _ acknowledgement: Acknowledgement?, _ settlement: Settlement
    ) {
        if let acknowledgement { settlements.append((acknowledgement, settlement)) }
        if let position { backlog?.refuse(position) }
        account.drop(reason)
    }

    mutating func append(
        _ profile: Profile, at position: SpoolPosition?, _ size: Int, _ acknowledgement: Acknowledgement?, _ now: MonotonicTime
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
    mutating func keep(_ profile: Profile, at position: SpoolPosition, _ acknowledgement: Acknowledgement?) {
        backlog?.append(position, sequence: profile.sequence, nil)
        if let acknowledgement { settlements.append((acknowledgement, Self.kept)) }
    }

    /// Tells those who wait for a profile behind the cursor that it stays in the spool.
    mutating func tellThoseBehindCursor() {
        for acknowledgement in backlog?.takeAcknowledgements() ?? [] { settlements.append((acknowledgement, Self.kept)) }
    }

    /// What a sender is told whose profile stays in the spool.
    static let kept = Settlement.failed(status: 504, isRetryable: true)

    /// Waiting and open, in memory and behind the spool's cursor.
    var queuedCount: Int { queue.count + (backlog?.count ?? 0) }
    var queuedBytes: Int { queue.byteCount + (backlog?.byteCount ?? 0) }

    /// What one share has of that.
    private func used(by share: ShareKey) -> ShareUsage.Amount {
        let (known, behind) = (queue.shares[share], backlog?.shares[share] ?? ShareUsage.Amount())
        return ShareUsage.Amount(profiles: known.profiles + behind.profiles, bytes: known.bytes + behind.bytes)
    }

    /// Whose all of it is.
    var shares: ShareUsage {
        var shares = queue.shares
        if let backlog { shares.add(backlog.shares) }
        return shares
    }

    func hasRoom(count: Int, bytes: Int, _ bounds: QueueConfig) -> Bool {
        queuedCount + reserved.profiles + count <= bounds.maxProfiles && queuedBytes + reserved.bytes + bytes <= bounds.maxBytes
    }

    /// Promises room, so that a request is accepted by all of its receivers or by none.
    ///
    /// A profile that no queue could ever hold needs no room: it is dropped when it comes.
    mutating func reserve(_ profiles: [Profile], _ bounds: QueueConfig) -> Bool {
        let (count, bytes) = Self.need(of: profiles, bounds)
        guard count == 0 || hasRoom(count: count, bytes: bytes, bounds) else { return false }
        reserved = (reserved.profiles + count, reserved.bytes + bytes)
        return true
    }

    mutating func release(_ profiles: [Profile], _ bounds: QueueConfig) {
        let (count, bytes) = Self.need(of: profiles, bounds)
        reserved = (reserved.profiles - count, reserved.bytes - bytes)
    }

    static func need(of profiles: [Profile], _ bounds: QueueConfig) -> (count: Int, bytes: Int) {
        let fitting = profiles.lazy.map(\.byteCount).filter { $0 <= bounds.maxBytes }
        return (fitting.count, fitting.reduce(0, +))
    }

    mutating func takeSettlements() -> [(Acknowledgement, Settlement)] {
        if settlements.isEmpty { return [] }
        defer { settlements = [] }
        return settlements
    }
}
