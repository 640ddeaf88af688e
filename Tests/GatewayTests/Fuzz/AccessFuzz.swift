import ConfigJSON
import LinuxSystem

@testable import HTTPServer
@testable import ProfileAPI

/// A message lies inside its body after its prefix, and base64 in any pieces decodes to the same bytes.
func fuzzGRPCWeb(_ bytes: [UInt8]) {
    _ = try? GRPCWeb.timeout(bytes[...])
    let message = try? GRPCWeb.message(bytes.span)
    if let message {
        promise(message.range.lowerBound >= 5 && message.range.upperBound <= bytes.count, "a message outside of the body")
        let flags: UInt8 = message.isCompressed ? 1 : 0
        let again = GRPCWeb.frame(Array(bytes[message.range]), flags: flags)
        promise(
            (try? GRPCWeb.message(again.span)) == GRPCWeb.Message(range: 5..<again.count, isCompressed: message.isCompressed),
            "another message")
    }
    var choices = InputChoices(bytes)
    let text = choices.pieces(bytes).flatMap { Base64.encode(Array($0)) }
    promise(decoded(text) == bytes, "other bytes behind base64")
    if let content = decoded(bytes) { promise(content.count <= bytes.count / 4 * 3 + 3, "more bytes than the text can hold") }
}

private func decoded(_ text: [UInt8]) -> [UInt8]? {
    var buffer = ByteBuffer()
    guard (try? GRPCWeb.decode(text.span, into: &buffer)) != nil else { return nil }
    return buffer.withBytes { bytes in bytes.withUnsafeBytes { Array($0) } }
}

/// Credentials are the same when they are written and read again.
func fuzzAuthorization(_ bytes: [UInt8]) {
    guard let credentials = Credentials(bytes[...]) else { return }
    let again: [UInt8]
    switch credentials {
    case .basic(let user, let password):
        promise(!user.contains(":"), "a colon in a user's name")
        again = Array("Basic ".utf8) + Base64.encode(Array(user.utf8) + [UInt8(ascii: ":")] + password)
    case .bearer(let token): again = Array("Bearer ".utf8) + token
    }
    promise(Credentials(again[...]) == credentials, "other credentials when read again")
}

/// A file of users or tokens is read, or refused with a message of one line.
func fuzzUsers(_ bytes: [UInt8]) {
    guard let text = String(validating: bytes, as: UTF8.self) else { return }
    let source = ConfigSource(content: .text(text), path: "file", position: nil)
    do throws(Problem) { _ = try UserList(source) } catch { promise(!error.message.contains("\n"), "a message of several lines") }
    do throws(Problem) {
        let tokens = try TokenList(source)
        for line in bytes.split(separator: 10) where line.first != UInt8(ascii: "#") {
            let token = Array(line.last == 13 ? line.dropLast() : line)
            promise(token.isEmpty || tokens.contains(token), "a token that is not found")
        }
    } catch { promise(!error.message.contains("\n"), "a message of several lines") }
}
