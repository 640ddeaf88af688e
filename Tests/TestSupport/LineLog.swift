import Foundation
import Glibc

/// The lines of a stream, kept from the first one on.
final class LineLog: @unchecked Sendable {
    private let condition = NSCondition()
    private var kept: [String] = []
    private var hasEnded = false
    /// Whether the last line has no line feed.
    private var isCut = false
    private var isHeld = false

    /// Reads a descriptor to its end on a thread, and then closes it.
    func read(_ descriptor: Int32) {
        Thread.detachNewThread { [self] in
            var rest = Data()
            var buffer = [UInt8](repeating: 0, count: 64 * 1024)
            while true {
                let count = Glibc.read(descriptor, &buffer, buffer.count)
                if count < 0, errno == EINTR { continue }
                guard count > 0 else { break }
                rest.append(contentsOf: buffer[..<count])
                rest = take(rest)
                waitWhileHeld()
            }
            Glibc.close(descriptor)
            condition.withLock {
                isCut = !rest.isEmpty
                if isCut { kept.append(String(decoding: rest, as: UTF8.self)) }
                hasEnded = true
                condition.broadcast()
            }
        }
    }

    /// Keeps the complete lines, and returns the rest.
    private func take(_ data: Data) -> Data {
        guard let end = data.lastIndex(of: 10) else { return data }
        let lines = data[...end].split(separator: 10, omittingEmptySubsequences: false).dropLast()
        condition.withLock {
            kept += lines.map { String(decoding: $0, as: UTF8.self) }
            condition.broadcast()
        }
        return Data(data[(end + 1)...])
    }

    /// Stops reading after the current piece, until ``letGo()``.
    func hold() { condition.withLock { isHeld = true } }

    /// Continues reading.
    func letGo() {
        condition.withLock {
            isHeld = false
            condition.broadcast()
        }
    }

    private func waitWhileHeld() {
        condition.lock()
        while isHeld { condition.wait() }
        condition.unlock()
    }

    var lines: [String] { condition.withLock { kept } }

    /// The whole text so far.
    var text: String { condition.withLock { kept.joined(separator: "\n") + (kept.isEmpty || isCut ? "" : "\n") } }

    /// Waits until the search finds something in the lines so far, and returns it.
    func wait<T>(for what: String, in search: ([String]) throws -> T?) throws -> T {
        let limit = Date(timeIntervalSinceNow: Project.patience)
        condition.lock()
        defer { condition.unlock() }
        while true {
            if let found = try search(kept) { return found }
            guard !hasEnded, condition.wait(until: limit) else { throw NeverCame(what: what, seen: kept) }
        }
    }

    /// Waits for a line that contains all of `texts`.
    @discardableResult
    func wait(for texts: String...) throws -> String {
        var searched = 0
        return try wait(for: texts.joined(separator: " … ")) { lines in
            defer { searched = lines.count }
            return lines[searched...].first { line in texts.allSatisfy(line.contains) }
        }
    }

    /// Waits until the stream has ended, and returns all its lines.
    @discardableResult
    func waitForEnd() throws -> [String] {
        let limit = Date(timeIntervalSinceNow: Project.patience)
        condition.lock()
        defer { condition.unlock() }
        while !hasEnded {
            guard condition.wait(until: limit) else { throw NeverCame(what: "the end of the stream", seen: kept) }
        }
        return kept
    }

    /// Repeats a question that no line answers, until it has an answer.
    @discardableResult
    func poll<T>(for what: String, _ question: () throws -> T?) throws -> T {
        let limit = Date(timeIntervalSinceNow: Project.patience)
        while true {
            if let answer = try question() { return answer }
            guard Date() < limit else { throw NeverCame(what: what, seen: lines) }
            pause()
        }
    }

    /// Waits a moment, or until the next line comes.
    func pause() {
        condition.lock()
        _ = condition.wait(until: Date(timeIntervalSinceNow: 0.01))
        condition.unlock()
    }
}
