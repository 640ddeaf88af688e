import CCurl

/// Checks and parses URLs of endpoints and proxies, with libcurl's own parser unless they are simple.
enum UpstreamURL {
    /// Why a URL is refused; the reason never contains the URL, which may hold a secret.
    struct Objection: Error {
        let reason: String
    }

    /// - Returns: the URL's path without a trailing slash.
    static func parse(_ text: String) -> Result<String, Objection> {
        let lowered = text.lowercased()
        guard lowered.hasPrefix("http://") || lowered.hasPrefix("https://") else {
            return .failure(Objection(reason: "must begin with http:// or https://"))
        }
        guard text.utf8.allSatisfy({ 0x21...0x7E ~= $0 }) else {
            return .failure(Objection(reason: "holds a space, a control or a non-ASCII character"))
        }
        // libcurl reads http:///x as http://x, which is surely a mistake.
        let authority = text.drop { $0 != "/" }.dropFirst(2)
        guard let first = authority.first, !"/?#".contains(first) else { return .failure(Objection(reason: "names no host")) }
        if let reason = objectionToEncoding(text) { return .failure(Objection(reason: reason)) }
        if let simple = SimpleURL(text) { return .success(withoutTrailingSlash(simple.path)) }
        guard let url = unsafe open() else { return .failure(Objection(reason: Libcurl.missing)) }
        defer { unsafe ccurl_url_cleanup(url) }
        let result = unsafe ccurl_url_set(url, CURLUPART_URL, text, UInt32(CURLU_PATH_AS_IS))
        guard result == CURLUE_OK else {
            return .failure(Objection(reason: "is no URL: \(unsafe String(cString: ccurl_url_strerror(result)))"))
        }
        if unsafe Self.part(url, CURLUPART_PORT) == "0" { return .failure(Objection(reason: portZero)) }
        for (part, what) in [
            (CURLUPART_USER, "a user or password"), (CURLUPART_PASSWORD, "a user or password"),
            (CURLUPART_QUERY, "a query or fragment"), (CURLUPART_FRAGMENT, "a query or fragment"),
        ] where unsafe Self.part(url, part) != nil {
            return .failure(Objection(reason: "must not hold \(what)"))
        }
        return .success(withoutTrailingSlash(unsafe Self.part(url, CURLUPART_PATH) ?? ""))
    }

    private static func withoutTrailingSlash(_ path: String) -> String {
        var path = path
        while path.hasSuffix("/") { path.removeLast() }
        return path
    }

    /// - Returns: libcurl's parser; nil when there is none.
    private static func open() -> OpaquePointer? {
        guard Libcurl.isUsable else { return nil }
        return unsafe ccurl_url()
    }

    private static let portZero = "has port 0, at which nothing listens"

    /// Describes the error in the percent-encoding of a text (RFC 3986 §2.1); an encoded control character is refused too.
    private static func objectionToEncoding(_ text: String) -> String? {
        var rest = text.utf8[...]
        while let percent = rest.firstIndex(of: UInt8(ascii: "%")) {
            let digits = rest[rest.index(after: percent)...].prefix(2)
            guard digits.count == 2, digits.allSatisfy({ Character(Unicode.Scalar($0)).isHexDigit }),
                let byte = UInt8(String(decoding: digits, as: UTF8.self), radix: 16)
            else {
                return "holds a \"%\" that two hexadecimal digits do not follow; the character itself is written %25"
            }
            if byte < 0x20 || byte == 0x7F { return "holds a control character, percent-encoded" }
            rest = rest[digits.endIndex...]
        }
        return nil
    }

    /// Why a text cannot be a proxy's URL, by libcurl's parser; any scheme is allowed.
    static func objection(toProxy text: String) -> String? {
        guard text.utf8.allSatisfy({ 0x21...0x7E ~= $0 }) else { return "is no URL" }
        guard let url = unsafe open() else { return Libcurl.missing }
        defer { unsafe ccurl_url_cleanup(url) }
        if let reason = objectionToEncoding(text) { return reason }
        guard unsafe ccurl_url_set(url, CURLUPART_URL, text, UInt32(CURLU_NON_SUPPORT_SCHEME)) == CURLUE_OK,
            unsafe part(url, CURLUPART_HOST)?.isEmpty == false, unsafe part(url, CURLUPART_FRAGMENT) == nil
        else { return "is no URL" }
        return unsafe part(url, CURLUPART_PORT) == "0" ? portZero : nil
    }

    /// The password in a URL, both as written and percent-decoded; empty without one.
    static func password(in text: String) -> [String] {
        guard let url = unsafe open() else { return [] }
        defer { unsafe ccurl_url_cleanup(url) }
        guard unsafe ccurl_url_set(url, CURLUPART_URL, text, UInt32(CURLU_NON_SUPPORT_SCHEME)) == CURLUE_OK else { return [] }
        return [0, UInt32(CURLU_URLDECODE)].compactMap { unsafe part(url, CURLUPART_PASSWORD, flags: $0) }
    }

    /// The scheme, host and port of a URL that was checked before.
    struct Place: Equatable {
        let scheme: String
        let host: String
        let port: String
    }

    static func place(of text: String) -> Place? {
        if let simple = SimpleURL(text) { return Place(scheme: "http", host: simple.host.lowercased(), port: "\(simple.port)") }
        guard let url = unsafe open() else { return nil }
        defer { unsafe ccurl_url_cleanup(url) }
        guard unsafe ccurl_url_set(url, CURLUPART_URL, text, UInt32(CURLU_PATH_AS_IS)) == CURLUE_OK,
            let scheme = unsafe part(url, CURLUPART_SCHEME), let host = unsafe part(url, CURLUPART_HOST),
            let port = unsafe part(url, CURLUPART_PORT, flags: UInt32(CURLU_DEFAULT_PORT))
        else { return nil }
        return Place(scheme: scheme.lowercased(), host: host.lowercased(), port: port)
    }

    /// The host of a URL in its original spelling.
    static func host(of text: String) -> String? {
        if let simple = SimpleURL(text) { return simple.host }
        guard let url = unsafe open() else { return nil }
        defer { unsafe ccurl_url_cleanup(url) }
        guard unsafe ccurl_url_set(url, CURLUPART_URL, text, UInt32(CURLU_PATH_AS_IS)) == CURLUE_OK else { return nil }
        return unsafe part(url, CURLUPART_HOST)
    }

    /// The URL that a Location leads to, seen from another URL; nil for an empty one. A Location that is no URL, or cannot be
    /// read without libcurl, is returned as it is.
    static func redirect(_ location: String, from text: String) -> String? {
        guard !location.isEmpty else { return nil }
        guard let url = unsafe open() else { return location }
        defer { unsafe ccurl_url_cleanup(url) }
        guard unsafe ccurl_url_set(url, CURLUPART_URL, text, 0) == CURLUE_OK,
            unsafe ccurl_url_set(url, CURLUPART_URL, location, UInt32(CURLU_NON_SUPPORT_SCHEME)) == CURLUE_OK
        else { return location }
        return unsafe part(url, CURLUPART_URL) ?? location
    }

    private static func part(_ url: OpaquePointer, _ part: CURLUPart, flags: UInt32 = 0) -> String? {
        var text: UnsafeMutablePointer<CChar>?
        guard unsafe ccurl_url_get(url, part, &text, flags) == CURLUE_OK, let text = unsafe text else { return nil }
        defer { unsafe ccurl_free(text) }
        return unsafe String(cString: text)
    }
}
