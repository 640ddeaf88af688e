import PluginABI

extension gw_slice {
    /// The bytes.
    package var buffer: UnsafeBufferPointer<UInt8> { unsafe UnsafeBufferPointer(start: bytes, count: count) }

    /// The bytes as text.
    var text: String { unsafe count == 0 ? "" : String(decoding: buffer, as: UTF8.self) }

    /// Whether these are the bytes of a text.
    package func isEqual(to text: String) -> Bool {
        let other = text.utf8.span
        guard unsafe count == other.count else { return false }
        for index in other.indices where unsafe bytes?[index] != other[index] { return false }
        return true
    }
}

extension String {
    /// Passes the text's UTF-8 to `body`, without a copy where possible.
    func withSlice<R>(_ body: (gw_slice) -> R) -> R {
        var copy = self
        return copy.withUTF8 { unsafe body(gw_slice(bytes: $0.baseAddress, count: $0.count)) }
    }
}
