import COpenSSL
package import LinuxSystem
import Synchronization

/// The key of the share of a queue that a profile counts against: made from its tenant, or, where senders choose their tenant,
/// from the address that it came from.
///
/// It is a digest that fits beside the flag of an entry in the spool's index, and is the same after a restart. Two senders whose
/// keys are equal by chance share the part that each would have alone.
public struct ShareKey: Hashable, Sendable {
    static let bitWidth = 31

    /// Below 2^31; 0 is ``unknown``.
    public let rawValue: UInt32

    /// The key of a profile from the spool of an earlier version, which stored no key.
    package static let unknown = ShareKey(rawValue: 0)

    package init(rawValue: UInt32) { self.rawValue = rawValue }

    private enum Source: Hashable {
        case tenant(String)
        case peer(PeerAddress)
    }

    /// Keys that were made before, because a digest costs as much as all else that is done for a small head.
    private static let known = Mutex<[Source: ShareKey]>([:])
    private static let mostKnown = 4096

    package init(tenant: String) { self = Self.key(.tenant(tenant)) { [0x74] + Array(tenant.utf8) } }

    package init(peer: PeerAddress) { self = Self.key(.peer(peer)) { [0x70] + peer.bytes } }

    private static func key(_ source: Source, _ bytes: () -> [UInt8]) -> ShareKey {
        if let key = known.withLock({ $0[source] }) { return key }
        let key = ShareKey(hashing: bytes())
        known.withLock { known in
            // Senders may invent tenants; the keys of those that go on sending are soon known again.
            if known.count >= mostKnown { known.removeAll(keepingCapacity: true) }
            known[source] = key
        }
        return key
    }

    /// A digest that cannot be aimed at: finding another name with a given key takes about 2^31 attempts.
    private init(hashing bytes: [UInt8]) {
        var digest = [UInt8](repeating: 0, count: Int(SHA256_DIGEST_LENGTH))
        unsafe copenssl_sha256(bytes, bytes.count, &digest)
        let value = digest.prefix(4).reduce(UInt32(0)) { $0 << 8 | UInt32($1) } >> (32 - UInt32(Self.bitWidth))
        self.init(rawValue: max(1, value))
    }
}

/// The amount that each share has of a queue, or of a segment of the spool. A plain value, guarded by its owner's lock.
package struct ShareUsage: Sendable {
    package struct Amount: Equatable, Sendable {
        package var profiles = 0
        package var bytes = 0

        package init(profiles: Int = 0, bytes: Int = 0) {
            (self.profiles, self.bytes) = (profiles, bytes)
        }

        fileprivate mutating func add(profiles: Int, bytes: Int) {
            self.profiles += profiles
            self.bytes += bytes
        }
    }

    private var amounts = ShareKey.Table<Amount>()

    package init() {}

    package subscript(key: ShareKey) -> Amount { amounts[key] ?? Amount() }

    package mutating func add(_ key: ShareKey, profiles: Int = 1, bytes: Int) {
        var amount = self[key]
        amount.add(profiles: profiles, bytes: bytes)
        amounts[key] = amount
    }

    package mutating func remove(_ key: ShareKey, bytes: Int) {
        guard var amount = amounts[key] else { return }
        amount.add(profiles: -1, bytes: -bytes)
        amounts[key] = amount.profiles > 0 ? amount : nil
    }

    package mutating func add(_ other: ShareUsage) {
        for (key, amount) in other.amounts.all { add(key, profiles: amount.profiles, bytes: amount.bytes) }
    }

    /// The shares that have less than an equal part of all bytes.
    package var underEqualPart: Set<ShareKey> {
        let all = amounts.all
        let total = all.reduce(0) { $0 + $1.value.bytes }
        return Set(all.filter { $0.value.bytes < total / all.count }.map(\.key))
    }

    /// The bytes of several shares together.
    package func bytes(of keys: Set<ShareKey>) -> Int { keys.reduce(0) { $0 + self[$1].bytes } }
}
