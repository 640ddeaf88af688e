import PushWire

/// What a reader made of an answer.
private struct AnswerOutcome: Equatable {
    var status = 0
    var body: [UInt8] = []
    var texts: [String] = []
    var used = 0
    var flags: [Bool] = []
    var failure: AnswerParser.Failure?

    init(_ pieces: [ArraySlice<UInt8>], isCut: Bool) {
        var parser = AnswerParser(bodyLimit: 64)
        do throws(AnswerParser.Failure) {
            for piece in pieces where !parser.isComplete { used += try parser.take(piece.span) }
            if isCut { try parser.takeEnd() }
        } catch { failure = error }
        (status, body, flags) = (parser.status, parser.body, [parser.isComplete, parser.hasHead, parser.keepsAlive])
        let fields = parser.texts()
        texts = [fields.contentType, fields.location, fields.retryAfter]
        promise(body.count <= 64, "a body over its limit")
        promise(status == 0 || 200...999 ~= status, "a status that is none")
    }
}

/// An answer gives the same result in pieces and in one piece, and what follows it changes nothing.
func fuzzAnswer(_ bytes: [UInt8]) {
    var choices = InputChoices(bytes)
    for isCut in [false, true] {
        let whole = AnswerOutcome([bytes[...]], isCut: isCut)
        let split = AnswerOutcome(choices.pieces(bytes), isCut: isCut)
        promise(split.failure == whole.failure, "in pieces \(split), at once \(whole)")
        // Of what comes before a failure, a piece more or less may have been counted.
        guard whole.failure == nil else { continue }
        promise(split == whole, "in pieces \(split), at once \(whole)")
        promise(!isCut || whole.flags[0], "cut off, and neither complete nor a failure")
        guard whole.flags[0], whole.flags[2] else { continue }
        promise(AnswerOutcome([bytes[..<whole.used]], isCut: false) == whole, "another answer without what follows it")
        promise(AnswerOutcome([(bytes[..<whole.used] + [0])[...]], isCut: false) == whole, "another answer with a byte after it")
    }
}
