import LinuxSystem

/// The format of a profile's bytes, determined as in Pyroscope's ingest handler: the first match wins.
package enum ProfileFormat: String, Sendable {
    case trie, tree, lines, jfr, pprof, speedscope
    /// Lines of `stack;frames N`; also the meaning of an unknown or absent format.
    case folded

    /// - Parameters:
    ///   - format: the query's `format`, nil when absent.
    ///   - contentType: the request's own header, empty when absent.
    package init(format: String?, contentType: String) {
        switch (format, contentType) {
        case ("trie", _), (_, "binary/octet-stream+trie"): self = .trie
        case ("tree", _), (_, "binary/octet-stream+tree"): self = .tree
        case ("lines", _): self = .lines
        case ("jfr", _): self = .jfr
        case ("pprof", _): self = .pprof
        case ("speedscope", _): self = .speedscope
        case (_, let type) where type.contains("multipart/form-data"): self = .pprof
        default: self = .folded
        }
    }
}
