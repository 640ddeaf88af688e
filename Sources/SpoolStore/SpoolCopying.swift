import Glibc
import LinuxSystem
import Profiles
import Telemetry

/// Copies what is left of old segments to the end of the journal, so that they can be removed.
extension SpoolJournal {
    private static let pause = Duration.seconds(30)

    func upkeep() {
        _ = removeSettled(isUrgent: false)
        let now = MonotonicTime.now
        guard nextUpkeep == .never || nextUpkeep <= now else { return }
        nextUpkeep = .never
        guard let segment = nearlySettledOldest else { return }
        // Usually the rest is being delivered, and a copy would only delay the senders.
        nextUpkeep = max(nextCopy, (segment.nearlySettledSince ?? now) + config.copyDelay)
        // Only one is copied before those that wait are stored.
        if nextUpkeep <= now { _ = compactOldest(isUrgent: false) }
    }

    /// Copies forward what is needed of the oldest segment, if that is little. After a failure the next attempt is made after a
    /// pause, because a record may be damaged, for example, which is reported when it is delivered.
    ///
    /// - Returns: whether the segment is removed.
    func compactOldest(isUrgent: Bool = true) -> Bool {
        guard nextCopy <= .now, let segment = nearlySettledOldest else { return false }
        if case .done = copyForward(segment.number, isUrgent: isUrgent) { return true }
        nextCopy = .now + Self.pause
        return false
    }

    /// Notes which segments are nearly settled; once a second.
    func noteNearlySettled(now: MonotonicTime) {
        spool.state.withLock { state in
            for number in state.order where number != state.active {
                state.change(number) { $0.nearlySettledSince = $0.isNearlySettled ? $0.nearlySettledSince ?? now : nil }
            }
        }
    }

    private var nearlySettledOldest: SpoolSegment? {
        spool.state.withLock { state in
            guard let number = state.order.first, state.order.count > 1, number != state.active, let segment = state.segments[number]
            else { return nil }
            return segment.isNearlySettled ? segment : nil
        }
    }

    enum Copying {
        case done
        case failed(SystemError?)
    }

    /// Copies the records that are still needed to the end of the journal, and removes the segment.
    func copyForward(_ number: UInt64, isUrgent: Bool = true) -> Copying {
        let (owners, strangers) = spool.owners(of: number)
        guard strangers.isEmpty, let segment = spool.state.withLock({ $0.segments[number] }) else { return .failed(nil) }
        var needed: [UInt32: (position: SpoolPosition, receivers: [String])] = [:]
        for (name, client) in owners {
            guard let positions = client.spoolPositions(in: number) else { return .failed(nil) }
            for position in positions { needed[position.offset, default: (position, [])].receivers.append(name) }
        }
        let sorted = needed.values.sorted { $0.position.offset < $1.position.offset }
        do {
            let shift = spool.clock.offset.subtractingSaturated(segment.clockOffset)
            let records = try sorted.map { try spool.folder.copy($0.position, segment.header, for: $0.receivers, shift: shift) }
            // The copies are always synced, because the original is removed.
            let places = records.isEmpty ? [] : try write(records, records.reduce(0) { $0 + $1.byteCount }, synced: true)
            move(number, zip(sorted, places).map { ($0.0, $0.1) }, owners)
            remove(number, isUrgent: isUrgent)
            return .done
        } catch {
            let failure = error as? SystemError
            if let failure, !failure.isLackOfDescriptors { abandon() }
            Log.debug("cannot copy a segment of the spool forward", ["segment": "\(number)", "error": "\(error)"])
            return .failed(failure)
        }
    }

    private func move(
        _ number: UInt64, _ moves: [(old: (position: SpoolPosition, receivers: [String]), new: SpoolPosition)],
        _ owners: [(name: String, client: any SpoolClient)]
    ) {
        for (name, client) in owners {
            let own = moves.filter { $0.old.receivers.contains(name) }
            let places = Dictionary(uniqueKeysWithValues: own.map { ($0.old.position.offset, $0.new) })
            for settled in client.spoolMoved(from: number, places) { spool.settle(settled, name) }
        }
        spool.state.withLock { forget([number], &$0) }
    }
}

extension SpoolFolder {
    /// The error for a record that cannot be copied because it is damaged.
    struct Damaged: Error {}

    /// Reads a record to be copied; a damaged one stays in its place and is reported when it is delivered.
    func copy(_ position: SpoolPosition, _ header: SpoolHeader, for receivers: [String], shift: Int64) throws -> EncodedRecord {
        let bytes = try open(position.segment, .records).read(Int(position.length), at: Int(position.offset))
        guard let record = unsafe SpoolRecord(bytes.span.bytes, at: 0), record.salt == header.salt, record.length == bytes.count,
            CRC32C.of(bytes, record.headLength..<bytes.count) == record.bodySum
        else { throw Damaged() }
        return EncodedRecord(
            copying: Array(bytes[record.headLength...]), of: record, from: position, receivers: receivers, shift: shift)
    }
}
