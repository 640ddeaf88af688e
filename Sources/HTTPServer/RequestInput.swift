/// The received bytes of a connection that cannot be processed yet, and how far a request's head among them was searched.
struct RequestInput {
    private var kept: [UInt8] = []
    /// How many of the bytes are known not to end a head.
    private(set) var searchedBytes: UInt32 = 0
    /// Whether a byte of the current request has arrived.
    private(set) var hasBegun = false

    var isEmpty: Bool { kept.isEmpty }

    mutating func keep(_ bytes: consuming [UInt8]) { kept = bytes }

    /// Removes and returns the kept bytes.
    mutating func take() -> [UInt8] {
        defer { kept = [] }
        return kept
    }

    /// Notes that a byte of a request has arrived.
    mutating func requestBegan() { hasBegun = true }

    /// Notes how many bytes, of which none ends the head, were searched for its end; 0 when it has ended.
    mutating func noteSearched(_ count: Int) {
        // The last three bytes may begin the empty line that ends the head.
        searchedBytes = UInt32(clamping: count - 3)
    }

    /// Notes that the current request has been answered.
    mutating func requestEnded() { hasBegun = false }
}

extension ArraySlice<UInt8> {
    /// Whether they are empty lines, and no more than may come before a request.
    var areEmptyLines: Bool {
        guard first == 13, count <= RequestParser.maximumEmptyLines * 2 else { return false }
        return count % 2 == 0 && stride(from: startIndex, to: endIndex, by: 2).allSatisfy { self[$0...].starts(with: [13, 10]) }
    }
}
