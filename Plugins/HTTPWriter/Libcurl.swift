import CCurl

/// libcurl, which is opened when something first needs it: an endpoint that is not plain HTTP, or an unusual URL or answer of one that
/// is. A process that needs it never does not have it and the libraries that it brings, 6 MiB, in memory.
enum Libcurl {
    /// Why it cannot be used; nil when it can. The first call opens it.
    static let obstacle: String? = unsafe ccurl_open().map { unsafe String(cString: $0) }

    /// Whether it can be used.
    static var isUsable: Bool { obstacle == nil }

    /// The end of a sentence whose subject cannot be done without it.
    static var missing: String { "needs libcurl, which cannot be used: \(obstacle ?? "it has no memory")" }
}
