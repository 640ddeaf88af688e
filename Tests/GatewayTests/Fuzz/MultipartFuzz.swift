@testable import Gateway

/// A part of a multipart body lies between its head and the next boundary, and a body that is written by the rules is read as it was
/// written; the input is a Content-Type and, after a line feed, a body.
func fuzzMultipart(_ bytes: [UInt8]) {
    let lines = bytes.split(separator: 10, maxSplits: 1, omittingEmptySubsequences: false).map { Array($0) }
    let (type, body) = (String(decoding: lines[0], as: UTF8.self), lines.count > 1 ? lines[1] : [])
    if let part = MultipartPart.content(named: "profile", in: body, contentType: type) {
        promise(body[..<part.startIndex].suffix(4) == [13, 10, 13, 10], "a part that does not begin after a head")
        promise(body[part.endIndex...].starts(with: [13, 10, 45, 45]), "a part that does not end before a boundary")
        promise(MultipartPart.content(named: "profile", in: body + bytes, contentType: type) == part, "another part with more behind it")
        let cut = Array(body[..<part.endIndex])
        promise(MultipartPart.content(named: "profile", in: cut, contentType: type) == nil, "a part without an end")
        promise(body[..<part.startIndex].contains(UInt8(ascii: ":")), "a part without a name")
    }
    checkWritten(body, name: type)
}

/// Checks that a part is found again between others, in the first of which a file has a name from the input.
private func checkWritten(_ content: [UInt8], name: String) {
    let file = String(name.unicodeScalars.filter { $0.value >= 32 && $0 != "\"" && $0 != "\\" })
    let disposition = "Content-Disposition: form-data; name="
    let other = "--x y\r\n\(disposition)\"other\"; filename=\"\(file)\"\r\n\r\nnot this\r\n"
    let head = "--x y\r\nX: \(file)\r\n\(disposition)\"profile\"\r\n\r\n"
    let body = Array((other + head).utf8) + content + Array("\r\n--x y--\r\n".utf8)
    let end = Array("\r\n--x y".utf8)
    let whole = content + end
    guard file.utf8.count < 4000, let length = whole.indices.first(where: { whole[$0...].starts(with: end) }) else { return }
    let found = MultipartPart.content(named: "profile", in: body, contentType: "multipart/form-data; boundary=\"x y\"")
    promise(found.map(Array.init) == Array(content[..<length]), "\(content) is read as \(found.map(Array.init) ?? [])")
}
