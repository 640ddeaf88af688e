import LinuxSystem

@testable import Gateway
@testable import HTTPServer
@testable import ProfileAPI
@testable import Receivers

// MARK: Heads

/// The result of parsing a head.
private enum HeadOutcome: Equatable {
    case incomplete
    case refused(RequestParser.Refusal)
    case read(bytes: [UInt8], ranges: [Range<Int>], framing: RequestHead.Framing, flags: [Bool], end: Int)

    init(_ input: ArraySlice<UInt8>, scanned: Int = 0) {
        do throws(RequestParser.Refusal) {
            guard case .head(let head, let end) = try RequestParser.parse(input, scanned: scanned) else {
                self = .incomplete
                return
            }
            check(head, endsAt: end, of: input)
            self = .read(
                bytes: head.bytes, ranges: ranges(of: head), framing: head.framing, flags: [head.keepsAlive, head.expectsContinue],
                end: end - input.startIndex)
        } catch { self = .refused(error) }
    }
}

/// A head gives the same result in pieces and in one piece.
func fuzzHead(_ bytes: [UInt8]) {
    let whole = HeadOutcome(bytes[...])
    var choices = InputChoices(bytes)
    var scanned = 0
    var last = HeadOutcome.incomplete
    for piece in choices.pieces(bytes) where last == .incomplete {
        last = HeadOutcome(bytes[..<piece.endIndex], scanned: scanned)
        // A connection counts in the same way, because an end of four bytes may have begun in the last three.
        scanned = max(0, piece.endIndex - 3)
    }
    promise(last == whole, "in pieces \(last), at once \(whole)")
    // The result is the same in the middle of a buffer, after the end of another head.
    let before = Array("\r\n\r\n".utf8)
    promise(HeadOutcome((before + bytes)[before.count...]) == whole, "a head depends on where it lies")
}

/// The ranges of all parts of a head.
private func ranges(of head: RequestHead) -> [Range<Int>] {
    [head.method, head.path, head.query] + head.fields.flatMap { [$0.name, $0.value] }
}

/// Checks what all readers of a head must agree on, because a difference is a way to smuggle a request.
private func check(_ head: RequestHead, endsAt end: Int, of input: ArraySlice<UInt8>) {
    let text = input[..<end].suffix(head.bytes.count)
    promise(text.elementsEqual(head.bytes) { $0.lowercased == $1.lowercased }, "other bytes than came")
    promise(head.bytes.suffix(4) == [13, 10, 13, 10], "a head that does not end")
    let lines = head.fields.count + 2
    promise(head.bytes.count { $0 == 10 } == lines && head.bytes.count { $0 == 13 } == lines, "a stray CR or LF")
    promise(ranges(of: head).allSatisfy { $0.lowerBound >= 0 && $0.upperBound <= head.bytes.count }, "a part outside of the head")
    let lengths = head.values(of: "content-length").map { Array($0) }
    let codings = Array(head.values(of: "transfer-encoding"))
    promise(lengths.count + codings.count <= 1, "more than one framing")
    switch head.framing {
    case .chunked: promise(codings.count == 1, "chunked without a Transfer-Encoding")
    case .length(let length):
        promise(codings.isEmpty, "a Transfer-Encoding that does not frame")
        promise(lengths.isEmpty ? length == 0 : Int(String(decoding: lengths[0], as: UTF8.self)) == length, "another length")
    }
    promise(head.fields.count { head.equals($0.name, "host") } <= 1, "two hosts")
}

// MARK: Bodies

/// The result of reading a chunked body.
private struct BodyOutcome: Equatable {
    var content: [UInt8] = []
    var used = 0
    var isComplete = false
    var refusal: RequestBody.Refusal?

    init(_ pieces: [ArraySlice<UInt8>], limit: Int) {
        do throws(RequestBody.Refusal) {
            var body = try RequestBody(.chunked, limit: limit)
            for piece in pieces { used += try body.append(piece) - piece.startIndex }
            isComplete = body.isComplete
            body.content.withBytes { bytes in content = bytes.withUnsafeBytes { Array($0) } }
        } catch { refusal = error }
        promise(content.count <= limit, "a body over its limit")
    }
}

/// A chunked body gives the same result in pieces, in one piece and with a simple decoder.
func fuzzBody(_ bytes: [UInt8]) {
    var choices = InputChoices(bytes)
    for limit in [1 << 20, 16] {
        let whole = BodyOutcome([bytes[...]], limit: limit)
        let split = BodyOutcome(choices.pieces(bytes), limit: limit)
        promise(split.refusal == whole.refusal, "in pieces \(split), at once \(whole)")
        guard whole.refusal == nil else { continue }
        promise(split == whole, "in pieces \(split), at once \(whole)")
        let plain = decodeChunks(bytes)
        promise((plain != nil) == whole.isComplete, "complete for one reader only")
        if let plain { promise(plain == (whole.content, whole.used), "another content or end") }
    }
}

/// The content and the end of a complete chunked body, from a simple decoder that ignores extensions and trailers.
private func decodeChunks(_ input: [UInt8]) -> (content: [UInt8], end: Int)? {
    var index = 0
    /// The next line without its line end, or nil at the end of the input.
    func line() -> ArraySlice<UInt8>? {
        guard let lineFeed = input[index...].firstIndex(of: 10) else { return nil }
        defer { index = lineFeed + 1 }
        return input[index..<lineFeed].dropLast()
    }
    var content: [UInt8] = []
    while let sizeLine = line() {
        let digits = String(decoding: sizeLine, as: UTF8.self).prefix { $0.isASCII && $0.isHexDigit }
        guard let size = Int(digits, radix: 16) else { return nil }
        if size == 0 {
            while let trailer = line() { if trailer.isEmpty { return (content, index) } }
            return nil
        }
        guard size <= input.count - index else { return nil }
        content += input[index..<(index + size)]
        index += size
        guard line() != nil else { return nil }
    }
    return nil
}

// MARK: Requests

/// The routes of a listener without receivers.
private let routes: IngestRoutes = {
    let limits = Limits(maxBodySize: 1 << 20, maxDecompressedSize: 1 << 20)
    let intake = ProfileIntake(
        ack: .queued, tenant: .pass, rates: nil, keepHeaders: ListenerConfig(name: "fuzz").keepHeaders,
        fanOut: FanOut(receivers: []), counters: ProfileCounters(), memory: nil)
    return IngestRoutes(
        ingest: IngestEndpoint(limits: limits, intake: intake),
        push: PushEndpoint(limits: limits, intake: intake, largePushes: LargePushes(bodies: BodyBudget(limit: .max))))
}()

private let loop: EventLoop = {
    do { return try EventLoop() } catch { fatalError("\(error)") }
}()

/// A head and its body get an answer, and an answer in JSON is valid JSON.
func fuzzRequest(_ bytes: [UInt8]) {
    guard case .head(let head, let end)? = try? RequestParser.parse(bytes[...]) else { return }
    let response: Response
    switch routes.admit(head) {
    case .refuse(let refusal): response = refusal
    case .receive(let request):
        guard var body = try? RequestBody(head.framing, limit: request.bodyLimit) else { return }
        guard (try? body.append(bytes[end...])) != nil, body.isComplete else { return }
        let reply = Reply(loop: loop, connection: ConnectionKey(rawValue: 0), request: 0)
        var whole: ByteBuffer? = body.take()
        let answer = loop.handOver(ConnectionKey(rawValue: 0), request: 0) {
            if let body = whole.take() { request.answer(body, reply) }
        }
        guard let answer else { fatalError("broken promise: nobody waits, yet no answer") }
        response = answer
    }
    promise(Response.reason(response.status) != "Status", "a status without a name: \(response.status)")
    checkJSON(response)
}
