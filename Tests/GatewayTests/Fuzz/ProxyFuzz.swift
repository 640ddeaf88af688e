import LinuxSystem

@testable import HTTPServer

/// What became of the bytes of a connection that begins with a PROXY header.
private enum ProxyOutcome: Equatable {
    case incomplete, refused(String)
    case read(source: String?, length: Int)

    init(_ bytes: ArraySlice<UInt8>) {
        guard !bytes.isEmpty else {
            self = .incomplete
            return
        }
        do throws(ProxyHeader.Malformed) {
            switch try ProxyHeader.parse(bytes) {
            case .incomplete: self = .incomplete
            case .header(let source, let length): self = .read(source: source?.address, length: length)
            }
        } catch { self = .refused(error.reason) }
    }
}

/// A PROXY header is the same in pieces and in one piece, ends within the bytes, and what follows it changes nothing.
func fuzzProxy(_ bytes: [UInt8]) {
    let whole = ProxyOutcome(bytes[...])
    var choices = InputChoices(bytes)
    var last = ProxyOutcome.incomplete
    for piece in choices.pieces(bytes) where last == .incomplete { last = ProxyOutcome(bytes[..<piece.endIndex]) }
    promise(isSame(last, whole), "in pieces \(last), at once \(whole)")
    switch whole {
    case .incomplete: promise(bytes.count < ProxyHeader.longest, "waits for more than a header may have")
    case .refused: break
    case .read(let source, let length):
        promise(length > 0 && length <= bytes.count && length <= ProxyHeader.longest, "an end outside of the header")
        promise(source.map { PeerAddress(literal: $0)?.address == $0 } ?? true, "an address that is none")
        promise(ProxyOutcome(bytes[..<length]) == whole, "another header without what follows it")
        promise(ProxyOutcome(bytes[..<(length - 1)]) == .incomplete, "a header that ends before its end")
        promise(ProxyOutcome(([0] + bytes)[1...]) == whole, "a header depends on where it lies")
    }
}

/// Of a refused header, more or less may be known when it is refused.
private func isSame(_ one: ProxyOutcome, _ other: ProxyOutcome) -> Bool {
    if case .refused = one, case .refused = other { return true }
    return one == other
}
