import CCrypt
import ConfigJSON

/// The users of an `auth.basic` file: lines of `user:hash`, empty ones and those that begin with `#` left out.
@safe struct UserList: Sendable {
    /// The hash of each user, as crypt(5) writes it.
    private var hashes: [String: [UInt8]] = [:]
    /// Stands in for users that are not there, so that they take as long.
    private var anyHash: [UInt8] = []

    /// The hashes that are taken, by their beginning, and how each ends.
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
        }
        guard let any = hashes.values.first else { throw source.problem("names no user") }
        anyHash = any
    }

    private static func isHash(_ text: String) -> Bool {
        guard let kind = kinds.first(where: { text.hasPrefix($0.prefix) }), unsafe crypt_checksalt(text) == CRYPT_SALT_OK,
            let last = text.lastIndex(of: "$")
        else { return false }
        return text[text.index(after: last)...].utf8.count == kind.tail
    }

    /// Whether a password is the user's; takes as long as the hash is made to, some 50 ms.
    func verify(_ user: String, _ password: [UInt8]) -> Bool {
        let hash = hashes[user]
        guard !password.contains(0), let computed = Self.crypt(password, hash ?? anyHash) else { return false }
        return Secrets.areEqual(computed, hash ?? anyHash) && hash != nil
    }

    private static func crypt(_ password: [UInt8], _ hash: [UInt8]) -> [UInt8]? {
        let memory = UnsafeMutablePointer<crypt_data>.allocate(capacity: 1)
        unsafe memory.initialize(to: crypt_data())
        defer {
            // The password's traces are among what crypt works with.
            unsafe memory.initialize(to: crypt_data())
            unsafe memory.deallocate()
        }
        let phrase = (password + [0]).map { CChar(bitPattern: $0) }
        let setting = (hash + [0]).map { CChar(bitPattern: $0) }
        guard let result = unsafe crypt_rn(phrase, setting, memory, Int32(MemoryLayout<crypt_data>.size)) else { return nil }
        return unsafe Array(String(cString: result).utf8)
    }
}
