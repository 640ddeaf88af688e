/// The received bytes of a connection that cannot be processed yet, and how far a request's head among them was searched.
struct RequestInput {
    private var kept: [UInt8] = []
    /// How many of the bytes are known not to end a head.
    private var searched: UInt32 = 0
    /// Whether a byte of the current request has arrived.
    private(set) var hasBegun = false

    var isEmpty: Bool { kept.isEmpty }

    mutating func keep(_ bytes: ArraySlice<UInt8>) { kept = Array(bytes) }

    /// Removes and returns the kept bytes.
    mutating func take() -> [UInt8] {
        defer { kept = [] }
        return kept
    }

    /// Parses the head of a request, whose first bytes `input` has.
    mutating func parseHead(_ input: ArraySlice<UInt8>) throws(RequestParser.Refusal) -> RequestParser.Progress {
        hasBegun = true
        let progress = try RequestParser.parse(input, scanned: Int(searched))
        // The last three bytes may begin the empty line that ends the head.
        if case .incomplete = progress { searched = UInt32(clamping: input.count - 3) } else { searched = 0 }
        return progress
    }

    /// Notes that the current request has been answered.
    mutating func requestEnded() { hasBegun = false }
}
