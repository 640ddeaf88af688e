import HTTPServer
import LinuxSystem
import Telemetry

/// gRPC-Web for unary calls: messages and trailers as frames in HTTP/1.1 bodies.
///
/// A frame is one byte of flags, a length of four bytes in big-endian order, and that many bytes (gRPC's PROTOCOL-WEB.md).
enum GRPCWeb {
    private static let compressed: UInt8 = 0x01
    private static let trailer: UInt8 = 0x80
    private static let prefix = 5

    /// The only message of a request, as a range of the body.
    struct Message: Equatable {
        let range: Range<Int>
        let isCompressed: Bool
    }

    /// Finds the message of a unary request; frames of trailers are skipped.
    static func message(_ body: Span<UInt8>) throws(PushFailure) -> Message {
        var messages: [Message] = []
        var index = 0
        while index < body.count {
            guard body.count - index >= prefix else { throw PushFailure(.invalidArgument, "the body ends inside a frame's prefix") }
            let flags = body[index]
            let length = (1...4).reduce(0) { $0 << 8 | Int(body[index + $1]) }
            let start = index + prefix
            guard length <= body.count - start else {
                throw PushFailure(.invalidArgument, "promised \(length) bytes in a frame, got \(body.count - start)")
            }
            index = start + length
            if flags & trailer != 0 { continue }
            guard flags & ~compressed == 0 else { throw PushFailure(.invalidArgument, "a frame with unknown flags \(flags)") }
            messages.append(Message(range: start..<index, isCompressed: flags & compressed != 0))
            guard messages.count == 1 else { throw PushFailure(.unimplemented, "more than one message in a unary call") }
        }
        guard let message = messages.first else { throw PushFailure(.unimplemented, "no message in a unary call") }
        return message
    }

    /// Decodes the base64 form of a body; each piece that the client wrote may end in padding of its own.
    static func decode(_ text: Span<UInt8>, into bytes: inout ByteBuffer) throws(PushFailure) {
        var start = 0
        while start < text.count {
            var end = start
            while end < text.count, text[end] != UInt8(ascii: "=") { end += 1 }
            while end < text.count, text[end] == UInt8(ascii: "=") { end += 1 }
            do throws(SystemError) { try Base64.decode(text.extracting(start..<end), into: &bytes) } catch {
                throw error.code == Base64.invalid
                    ? PushFailure(.invalidArgument, "the body is no base64") : PushFailure(.unavailable, "no memory for the message")
            }
            start = end
        }
    }

    static func frame(_ content: [UInt8], flags: UInt8 = 0) -> [UInt8] {
        let length = UInt32(content.count)
        return [flags] + [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: length >> $0) } + content
    }

    /// The last frame of an answer: the status of the call; a nil code is success.
    static func trailers(_ code: ConnectCode?, _ message: String) -> [UInt8] {
        let text = "grpc-status: \(code?.grpcStatus ?? 0)\r\ngrpc-message: \(percentEncoded(message))\r\n"
        return frame(Array(text.utf8), flags: trailer)
    }

    /// gRPC's own percent-encoding, which leaves printable ASCII as it is, except for the percent sign.
    private static func percentEncoded(_ message: String) -> String {
        message.utf8.reduce(into: "") { text, byte in
            if 0x20...0x7E ~= byte, byte != UInt8(ascii: "%") {
                text.unicodeScalars.append(Unicode.Scalar(byte))
            } else {
                text += "%" + (byte < 16 ? "0" : "") + String(byte, radix: 16, uppercase: true)
            }
        }
    }

    /// Reads `Grpc-Timeout`: at most eight digits and a unit.
    static func timeout(_ value: ArraySlice<UInt8>) throws(PushFailure) -> Duration {
        let digits = value.dropLast()
        guard digits.count <= 8, let number = RequestParser.number(digits), let unit = value.last, let span = span(number, unit) else {
            let text = quotedForPeople(String(decoding: value, as: UTF8.self))
            throw PushFailure(.invalidArgument, "Grpc-Timeout must be at most eight digits and one of H M S m u n: got \(text)")
        }
        return span
    }

    private static func span(_ number: Int, _ unit: UInt8) -> Duration? {
        switch unit {
        case UInt8(ascii: "H"): .seconds(number * 3600)
        case UInt8(ascii: "M"): .seconds(number * 60)
        case UInt8(ascii: "S"): .seconds(number)
        case UInt8(ascii: "m"): .milliseconds(number)
        case UInt8(ascii: "u"): .microseconds(number)
        case UInt8(ascii: "n"): .nanoseconds(number)
        default: nil
        }
    }
}
