import CCrypt
import COpenSSL
import ConfigJSON
import Telemetry

/// The users of an `auth.basic` file, in lines of `user:hash`; empty lines and lines that begin with `#` are ignored.
@safe struct UserList: Sendable {
    /// The hash of each user, as crypt(5) writes it.
    private var hashes: [String: [UInt8]] = [:]
    /// One hash of each kind and cost in the file, by the part of the hash that states these.
    private var settings: [ArraySlice<UInt8>: [UInt8]] = [:]

    /// The accepted kinds of hashes: the prefix, and the length of the part behind the last `$`.
    private static let kinds: [(prefix: String, tail: Int)] = [
        ("$y$", 43), ("$gy$", 43), ("$7$", 43), ("$2a$", 53), ("$2b$", 53), ("$2y$", 53), ("$6$", 86),
    ]

    init(_ source: ConfigSource) throws(Problem) {
        for (number, line) in try source.lines() {
            guard let colon = line.firstIndex(of: ":"), colon != line.startIndex else {
                throw source.problem("line \(number): is not user:hash")
            }
            let user = String(line[..<colon])
            let hash = String(line[line.index(after: colon)...])
            guard Self.isHash(hash) else {
                throw source.problem(
                    "line \(number): the hash of \(quotedForPeople(user)) is none that is taken: yescrypt $y$, bcrypt $2b$, sha512crypt $6$"
                )
            }
            guard hashes.updateValue(Array(hash.utf8), forKey: user) == nil else {
                throw source.problem("line \(number): \(quotedForPeople(user)) is there twice")
            }
            settings[Self.setting(of: Array(hash.utf8))] = Array(hash.utf8)
        }
        if hashes.isEmpty { throw source.problem("names no user") }
    }

    /// The part of a hash that decides how long it takes: its kind and its cost, without its salt, as crypt(5) writes them.
    private static func setting(of hash: [UInt8]) -> ArraySlice<UInt8> {
        let dollars = hash.indices.filter { hash[$0] == UInt8(ascii: "$") }
        let isDefault = hash.starts(with: "$6$".utf8) && !hash.starts(with: "$6$rounds=".utf8)
        // scrypt's costs take 11 characters, directly followed by its salt.
        if hash.starts(with: "$7$".utf8) { return hash.prefix(14) }
        return hash[...dollars[min(isDefault ? 1 : 2, dollars.count - 1)]]
    }

    /// Whether there is a user of this name.
    func has(_ user: String) -> Bool { hashes[user] != nil }

    private static func isHash(_ text: String) -> Bool {
        guard let kind = kinds.first(where: { text.hasPrefix($0.prefix) }), unsafe crypt_checksalt(text) == CRYPT_SALT_OK,
            let last = text.lastIndex(of: "$")
        else { return false }
        return text[text.index(after: last)...].utf8.count == kind.tail
    }

    /// Whether a password is the user's; takes as long as the hash is made to take, about 50 ms.
    ///
    /// A refusal takes as long as one hash of each kind and cost in the file, for every user name, so that its time does not
    /// reveal which users exist.
    func verify(_ user: String, _ password: [UInt8]) -> Bool {
        if password.contains(0) { return false }
        var others = settings
        if let hash = hashes[user] {
            if let computed = Self.crypt(password, hash), Secrets.areEqual(computed, hash) { return true }
            others[Self.setting(of: hash)] = nil
        }
        for hash in others.values { _ = Self.crypt(password, hash) }
        return false
    }

    private static func crypt(_ password: [UInt8], _ hash: [UInt8]) -> [UInt8]? {
        let memory = UnsafeMutablePointer<crypt_data>.allocate(capacity: 1)
        unsafe memory.initialize(to: crypt_data())
        defer {
            // crypt's work area holds traces of the password; a plain store before the end of the memory could be optimized away.
            unsafe OPENSSL_cleanse(memory, MemoryLayout<crypt_data>.size)
            unsafe memory.deallocate()
        }
        let phrase = (password + [0]).map { CChar(bitPattern: $0) }
        let setting = (hash + [0]).map { CChar(bitPattern: $0) }
        guard let result = unsafe crypt_rn(phrase, setting, memory, Int32(MemoryLayout<crypt_data>.size)) else { return nil }
        return unsafe Array(String(cString: result).utf8)
    }
}
