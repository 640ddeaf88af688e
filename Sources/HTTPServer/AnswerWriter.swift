import LinuxSystem

/// The bytes of an answer that are still to be sent.
struct AnswerWriter {
    private var bytes: [UInt8] = []
    private var sent = 0

    enum Progress { case done, blocked, failed }

    mutating func begin(_ answer: [UInt8]) { (bytes, sent) = (answer, 0) }

    /// Sends as much as the transport takes now.
    mutating func write(to transport: borrowing Transport) -> Progress {
        while sent < bytes.count {
            switch transport.send(bytes, from: sent) {
            case .done(let count): sent += count
            case .wouldBlock: return .blocked
            case .failed: return .failed
            }
        }
        bytes = []
        return .done
    }
}
