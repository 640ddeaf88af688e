import Foundation
import Glibc

/// What a scenario waited for in vain, with what was seen instead.
struct NeverCame: Error, CustomStringConvertible {
    let what: String
    let seen: [String]
    var description: String { "never came: \(what)\nseen:\n" + seen.suffix(40).joined(separator: "\n") }
}

/// The lines of a stream as they come, kept from the first one on.
final class LineLog: @unchecked Sendable {
    /// Bounds a wait that would never end; nothing is asserted about time.
    static let patience: TimeInterval = Package.isSanitized ? 180 : 60

    private let condition = NSCondition()
    private var kept: [String] = []
    private var hasEnded = false
    private var isHeld = false

    /// Reads a descriptor to its end on a thread of its own, and closes it then.
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
                if !rest.isEmpty { kept.append(String(decoding: rest, as: UTF8.self)) }
                hasEnded = true
                condition.broadcast()
            }
        }
    }

    private func take(_ data: Data) -> Data {
        guard let end = data.lastIndex(of: 10) else { return data }
        let lines = data[...end].split(separator: 10, omittingEmptySubsequences: false).dropLast()
        condition.withLock {
            kept += lines.map { String(decoding: $0, as: UTF8.self) }
            condition.broadcast()
        }
        return Data(data[(end + 1)...])
    }

    /// From now on nothing is read, but for what is at hand, until ``letGo()``.
    func hold() { condition.withLock { isHeld = true } }

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

    /// Waits until the lines so far satisfy a test, and answers what it found in them.
    func wait<T>(for what: String, in search: ([String]) throws -> T?) throws -> T {
        let limit = Date(timeIntervalSinceNow: Self.patience)
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

    /// Waits until the stream has ended, and answers all its lines.
    @discardableResult
    func waitForEnd() throws -> [String] {
        let limit = Date(timeIntervalSinceNow: Self.patience)
        condition.lock()
        defer { condition.unlock() }
        while !hasEnded {
            guard condition.wait(until: limit) else { throw NeverCame(what: "the end of the stream", seen: kept) }
        }
        return kept
    }

    /// Asks again and again for what no line tells of, until there is an answer.
    func poll<T>(for what: String, _ question: () throws -> T?) throws -> T {
        let limit = Date(timeIntervalSinceNow: Self.patience)
        while true {
            if let answer = try question() { return answer }
            guard Date() < limit else { throw NeverCame(what: what, seen: lines) }
            pause()
        }
    }

    /// Gives the writer a moment, ended early by its next line.
    func pause() {
        condition.lock()
        _ = condition.wait(until: Date(timeIntervalSinceNow: 0.01))
        condition.unlock()
    }
}
