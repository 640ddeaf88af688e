import Glibc
import LinuxSystem
import Profiles
import Synchronization

/// One end of the socket between the gateway and the process of a plugin. Any thread may send; one thread receives.
///
/// Sending waits for the other end to take the bytes, and fails when it has ended.
final class PluginChannel: Sendable {
    /// What has come from the other end.
    enum Arrival {
        case messages([PluginMessage])
        case nothingYet
        /// The other end has closed the socket, or sent something else than messages.
        case ended
    }

    private let socket: FileDescriptor
    private let output = Mutex(LittleEndianWriter())
    /// The bytes of a message that has not come wholly.
    private let input = Mutex<[UInt8]>([])

    /// From so many bytes on, what was put aside is sent.
    private static let largeOutput = 32 << 10

    /// The most bytes of a message that comes; a longer one ends the connection.
    private let longest: Int

    init(_ socket: consuming FileDescriptor, longest: Int) {
        self.socket = socket
        self.longest = longest
    }

    /// Sends a message, after those that were put aside.
    func send(_ message: PluginMessage) throws(SystemError) { try write { message.encode(into: &$0) } }

    /// Puts a message aside, to be sent with the next one or by ``flush()``.
    func putAside(_ message: PluginMessage) {
        let isMuch = output.withLock { output in
            message.encode(into: &output)
            return output.bytes.count >= Self.largeOutput
        }
        if isMuch { try? flush() }
    }

    func flush() throws(SystemError) { try write { _ in } }

    private func write(_ add: (inout LittleEndianWriter) -> Void) throws(SystemError) {
        try output.withLock { (output) throws(SystemError) in
            add(&output)
            defer { output.removeAll() }
            guard !output.bytes.isEmpty else { return }
            try unsafe socket.writeAll(output.bytes.span.bytes)
        }
    }

    /// Receives what has come.
    ///
    /// - Parameter milliseconds: how long to wait when nothing has.
    func receive(waiting milliseconds: Int32) -> Arrival {
        var ready = pollfd(fd: socket.number, events: Int16(POLLIN), revents: 0)
        guard unsafe poll(&ready, 1, milliseconds) > 0 else { return .nothingYet }
        return input.withLock { input in
            var room = [UInt8](repeating: 0, count: Self.largeOutput)
            let count = unsafe read(socket.number, &room, room.count)
            guard count > 0 else { return count < 0 && errno == EINTR ? .nothingYet : .ended }
            input += room[..<count]
            return messages(&input)
        }
    }

    private func messages(_ input: inout [UInt8]) -> Arrival {
        var messages: [PluginMessage] = []
        var start = 0
        while input.count - start >= 4 {
            let length = unsafe Int(littleEndian(input.span.bytes, at: start) as UInt32)
            guard length <= longest else { return .ended }
            guard input.count - start - 4 >= length else { break }
            let message = unsafe input.withUnsafeBytes { bytes in
                unsafe PluginMessage(UnsafeRawBufferPointer(rebasing: bytes[(start + 4)..<(start + 4 + length)]))
            }
            guard let message else { return .ended }
            messages.append(message)
            start += 4 + length
        }
        input.removeFirst(start)
        return messages.isEmpty ? .nothingYet : .messages(messages)
    }
}
