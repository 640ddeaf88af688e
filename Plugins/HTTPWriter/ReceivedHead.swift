import LinuxSystem
import PluginABI
import PluginKit
import PushWire

/// Writes the head of a request to `/ingest` from the profile's own bytes: a text of each part would be made and freed for every profile
/// and endpoint.
extension Profile {
    /// Appends path and query.
    func writeTarget(to head: inout [UInt8]) throws(WrittenHead.Refusal) {
        let (path, query) = unsafe (view.pointee.path.buffer, view.pointee.query.buffer)
        try WrittenHead.check(target: unsafe Span(_unsafeElements: path))
        try WrittenHead.check(target: unsafe Span(_unsafeElements: query))
        unsafe head.append(contentsOf: path)
        guard !query.isEmpty else { return }
        head.append(UInt8(ascii: "?"))
        unsafe head.append(contentsOf: query)
    }

    /// Appends a line for each header that is not blank: the types of the body, and the headers with one of `names`, which are in lower
    /// case.
    func writeHeaders(named names: [String], to head: inout [UInt8]) throws(WrittenHead.Refusal) {
        try head.append(header: "Content-Type", unsafe Span(_unsafeElements: view.pointee.content_type.buffer))
        try head.append(header: "Content-Encoding", unsafe Span(_unsafeElements: view.pointee.content_encoding.buffer))
        let headers = unsafe UnsafeBufferPointer(start: view.pointee.headers, count: view.pointee.header_count)
        for index in headers.indices {
            let header = unsafe headers[index]
            guard let name = names.first(where: { unsafe header.name.isEqual(to: $0) }) else { continue }
            try head.append(header: name == "content-type" ? "Content-Type" : name, unsafe Span(_unsafeElements: header.value.buffer))
        }
    }
}

extension [UInt8] {
    /// Appends the line of a header, unless its value is empty or blank.
    mutating func append(header: UpstreamRequest.Header) throws(WrittenHead.Refusal) {
        try WrittenHead.check(header)
        try append(header: header.name, header.value.utf8.span)
    }

    /// Appends the line of a header with a proper name, unless its value is empty or blank.
    fileprivate mutating func append(header name: String, _ value: Span<UInt8>) throws(WrittenHead.Refusal) {
        try WrittenHead.check(value: value, of: name)
        guard value.indices.contains(where: { value[$0] != 32 && value[$0] != 9 }) else { return }
        append(utf8: name)
        append(utf8: ": ")
        unsafe value.withUnsafeBufferPointer { unsafe append(contentsOf: $0) }
        append(utf8: "\r\n")
    }
}
