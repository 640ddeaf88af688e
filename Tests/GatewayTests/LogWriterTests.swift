import Foundation
import Glibc
import LinuxSystem
import Testing

@testable import Telemetry
@testable import TestSupport

/// A pipe that the log is written to and the test reads from.
private final class TestPipe: @unchecked Sendable {
    let reader: Int32
    let writer: Int32

    init(isNonBlocking: Bool = false) throws {
        var ends: [Int32] = [-1, -1]
        try #require(pipe(&ends) == 0)
        // The programs that other tests start at the same time must not inherit them.
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        (reader, writer) = (ends[0], ends[1])
        if isNonBlocking { _ = fcntl(writer, F_SETFL, O_NONBLOCK) }
    }

    /// Reads lines until one is `last`.
    func lines(until last: String) -> [String] { lines { $0.ends(with: Array((last + "\n").utf8)) } }

    /// Reads lines until the bytes so far are enough.
    func lines(until isEnough: ([UInt8]) -> Bool) -> [String] {
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 65536)
        while !isEnough(bytes) {
            let count = read(reader, &chunk, chunk.count)
            guard count > 0 else { break }
            bytes += chunk[..<count]
        }
        return String(decoding: bytes, as: UTF8.self).split(separator: "\n").map(String.init)
    }
}

extension [UInt8] {
    fileprivate func ends(with end: [UInt8]) -> Bool { count >= end.count && suffix(end.count).elementsEqual(end) }
}

@Suite("The thread that writes the log")
struct LogWriterTests {
    /// A log writer that reports dropped lines as `3 dropped`.
    private func writer(_ descriptor: Int32) -> LogWriter { LogWriter(descriptor) { Array("\($0) dropped\n".utf8) } }

    private func bytes(_ line: String) -> [UInt8] { Array((line + "\n").utf8) }

    /// A line of `size` bytes with its line feed.
    private func line(_ size: Int, _ letter: Character = "x") -> [UInt8] { bytes(String(repeating: letter, count: size - 1)) }

    @Test("Lines of any length are written in order", arguments: [false, true])
    func order(isNonBlocking: Bool) throws {
        let pipe = try TestPipe(isNonBlocking: isNonBlocking)
        let writer = writer(pipe.writer)
        let given = (0..<400).map { "\($0) " + String(repeating: "y", count: $0 % 7 == 0 ? 9000 : $0) } + ["end"]
        for line in given { writer.append(bytes(line)) }
        #expect(pipe.lines(until: "end") == given)
        #expect(writer.droppedCount == 0)
    }

    @Test("A full pipe blocks no caller, and one line in the log reports the number of dropped lines")
    func fullBuffer() throws {
        let pipe = try TestPipe()
        let writer = writer(pipe.writer)
        let count = 3 * LogWriter.capacity / 1000
        for number in 0..<count { writer.append(bytes("\(number) " + String(repeating: "z", count: 990))) }
        let dropped = writer.droppedCount
        // The pipe itself holds 64 KiB.
        #expect(dropped >= count - (LogWriter.capacity + 65536) / 990 && dropped < count)
        // Beside other load, the pipe may be full for so long that more lines are dropped, with a notice of their own.
        let lines = pipe.lines { bytes in
            let lines = String(decoding: bytes, as: UTF8.self).split(separator: "\n")
            let notices = lines.filter { $0.hasSuffix(" dropped") }
            return lines.count - notices.count + notices.compactMap { Int($0.dropLast(8)) }.reduce(0, +) == count && bytes.last == 10
        }
        let numbers = lines.filter { $0.hasSuffix("z") }.compactMap { Int($0.prefix { $0 != " " }) }
        #expect(numbers == numbers.sorted() && Set(numbers).count == numbers.count && numbers.count + writer.droppedCount == count)
        writer.append(bytes("after"))
        #expect(pipe.lines(until: "after") == ["after"])
    }

    @Test("A line may fill the buffer to its last byte, and a longer one is dropped", arguments: [0, 1])
    func capacity(beyond: Int) throws {
        let pipe = try TestPipe()
        let writer = writer(pipe.writer)
        writer.append(line(LogWriter.capacity + beyond))
        #expect(writer.droppedCount == beyond)
        writer.flush(until: .now)
        #expect(pipe.lines(until: beyond == 0 ? String(repeating: "x", count: LogWriter.capacity - 1) : "1 dropped").count == 1)
    }

    @Test("A flush waits until all lines are written, but not beyond its deadline")
    func flush() throws {
        let pipe = try TestPipe()
        let writer = writer(pipe.writer)
        writer.append(bytes("one"))
        writer.flush(until: .never)
        var pending: Int32 = 0
        #expect(ioctl(pipe.reader, UInt(FIONREAD), &pending) == 0 && pending == 4)
        writer.append(line(200_000))
        let deadline = MonotonicTime.now + .milliseconds(50)
        writer.flush(until: deadline)
        #expect(MonotonicTime.now >= deadline)
    }

    @Test("Lines that the descriptor refuses are counted, and reported when it takes lines again")
    func refusal() throws {
        let folder = try TestFolder()
        // A read-only descriptor refuses every write, until another file gets its number.
        let number = open(try folder.file("readable"), O_RDONLY | O_CLOEXEC)
        let writer = writer(number)
        for text in ["a", "b", "c"] { writer.append(bytes(text)) }
        writer.flush(until: .never)
        #expect(writer.droppedCount == 3)
        let good = open("\(folder.path)/log", O_WRONLY | O_CREAT | O_CLOEXEC, 0o600)
        try #require(dup2(good, number) == number)
        _ = fcntl(number, F_SETFD, FD_CLOEXEC)
        writer.append(bytes("d"))
        writer.flush(until: .never)
        #expect(try String(contentsOfFile: "\(folder.path)/log", encoding: .utf8) == "3 dropped\nd\n")
        #expect(writer.droppedCount == 3)
    }

    @Test("A line that was cut at a full file is finished before the next one once there is room")
    func cutLine() throws {
        let folder = try TestFolder()
        let number = open("\(folder.path)/full", O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        // At its largest possible size a file takes only the bytes that fit, like a full disk.
        let start = lseek(number, largestOffset(of: number) - 10, SEEK_SET)
        var output = LogOutput(number)
        #expect(output.write(bytes("first")[...]) == 0)
        #expect(output.write((bytes("second") + bytes("third"))[...]) == 1)
        #expect(output.write(bytes("fourth")[...]) == 1)
        var beginning = [UInt8](repeating: 0, count: 10)
        #expect(pread(number, &beginning, 10, start) == 10 && beginning == Array("first\nseco".utf8))
        try #require(dup2(open("\(folder.path)/log", O_WRONLY | O_CREAT | O_CLOEXEC, 0o600), number) == number)
        _ = fcntl(number, F_SETFD, FD_CLOEXEC)
        #expect(output.write(bytes("fifth")[...]) == 0)
        #expect(try String(contentsOfFile: "\(folder.path)/log", encoding: .utf8) == "nd\nfifth\n")
    }

    /// The largest offset that the file system allows.
    private func largestOffset(of file: Int32) -> Int {
        var (least, most) = (0, Int.max)
        while least < most {
            let middle = least + (most - least) / 2 + 1
            if lseek(file, middle, SEEK_SET) == middle { least = middle } else { most = middle - 1 }
        }
        return least
    }
}
