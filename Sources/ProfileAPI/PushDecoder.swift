import LinuxSystem
import PluginABI
import Profiles
import PushWire

/// Makes profiles of a Push's body: unwraps, inflates and parses it, with bounds on everything that results.
struct PushDecoder {
    /// Protobuf messages up to this size, and of at most `smallCount` fields, are decoded on the event loop, which takes a few
    /// milliseconds at most.
    static let smallSize = 1 << 20
    private static let smallSizeOfJSON = 64 << 10
    /// Data that inflates to less than it is takes up to thirty times as long for each byte.
    static let smallExcess = 16 << 10
    /// About a hundred series with ten labels each.
    static let smallCount = 4096

    let call: PushCall
    /// The most bytes that the inflated message may have.
    let limit: Int
    /// How many bytes of compressed data may be read beyond those that they inflate to.
    var excess = Int.max
    /// Called with the size of each allocation beside the body itself.
    var grow: (Int) -> Void = { _ in }

    /// Extracts the message from a body that is framed or compressed; nil when the body itself is the message.
    func unwrap(_ body: borrowing ByteBuffer) throws(PushFailure) -> ByteBuffer? {
        guard call.form.isGRPCWeb else {
            // An empty body is an empty message, compressed or not.
            return call.isCompressed && body.count > 0 ? try inflate(body) : nil
        }
        guard call.form.isText else { return try unframe(body) }
        var decoded = ByteBuffer()
        grow(body.count)
        try body.withBytes { (text) throws(PushFailure) in try GRPCWeb.decode(text, into: &decoded) }
        return try unframe(decoded)
    }

    private func unframe(_ body: borrowing ByteBuffer) throws(PushFailure) -> ByteBuffer {
        let frame = try body.withBytes { (bytes) throws(PushFailure) in try GRPCWeb.message(bytes) }
        guard !frame.isCompressed || call.isCompressed else {
            throw PushFailure(.invalidArgument, "a compressed message without Grpc-Encoding")
        }
        grow(frame.range.count)
        let message = try Self.copy(frame.range, of: body)
        return frame.isCompressed && message.count > 0 ? try inflate(message) : message
    }

    private static func copy(_ range: Range<Int>, of body: borrowing ByteBuffer) throws(PushFailure) -> ByteBuffer {
        do throws(SystemError) {
            return try body.withBytes { (bytes) throws(SystemError) in
                var copy = ByteBuffer()
                try unsafe copy.append(bytes.extracting(range).bytes)
                return copy
            }
        } catch { throw PushFailure(.unavailable, "no memory for the message") }
    }

    private func inflate(_ input: borrowing ByteBuffer) throws(PushFailure) -> ByteBuffer {
        do throws(Gzip.Failure) {
            return try Gzip.inflate(input, limit: limit, excess: excess, grow: grow)
        } catch {
            switch error {
            case .tooLarge, .tooSparse: throw .tooLarge(nil, limit: limit)
            case .malformed: throw PushFailure(.invalidArgument, "the message is no gzip")
            case .noRoom: throw PushFailure(.unavailable, "no memory for the message")
            }
        }
    }

    /// Whether copying a message out of its frames, with base64 or without, takes longer than other senders should wait.
    func takesLongToUnwrap(_ body: borrowing ByteBuffer) -> Bool {
        call.form.isGRPCWeb && body.count > (call.form.isText ? Self.smallSizeOfJSON : Self.smallSize)
    }

    /// Whether parsing a message takes longer than other senders should wait.
    ///
    /// - Parameter unwrapped: the message, when it is not the body itself.
    func takesLong(_ body: borrowing ByteBuffer, _ unwrapped: borrowing ByteBuffer?) -> Bool {
        switch unwrapped {
        case .some(let message): takesLong(message)
        case .none: takesLong(body)
        }
    }

    private func takesLong(_ message: borrowing ByteBuffer) -> Bool {
        switch call.form.codec {
        case .json: message.count > Self.smallSizeOfJSON
        case .proto:
            message.count > Self.smallSize
                || message.withBytes { PushProtobuf.countFields($0, upTo: Self.smallCount + 1) } > Self.smallCount
        }
    }

    /// Decodes a body into profiles.
    func decode(_ body: consuming ByteBuffer) throws(PushFailure) -> [ReceivedProfile] {
        guard let message = try unwrap(body) else { return try profiles(body) }
        return try profiles(message)
    }

    /// Parses a message into profiles.
    func profiles(_ message: consuming ByteBuffer) throws(PushFailure) -> [ReceivedProfile] {
        do throws(DecodedPush.Malformed) {
            switch call.form.codec {
            case .proto:
                let request = try message.withBytes { (bytes) throws(DecodedPush.Malformed) in try PushProtobuf.parse(bytes) }
                return try profiles(request, message)
            case .json:
                guard message.count > 0 else { return [] }
                var decoded = ByteBuffer()
                grow(message.count / 4 * 3)
                let request = try message.withBytes { (bytes) throws(DecodedPush.Malformed) in
                    try PushJSON.parse(bytes, samples: &decoded)
                }
                return try profiles(request, decoded)
            }
        } catch { throw PushFailure(.invalidArgument, "unmarshal message: \(error.reason)") }
    }

    /// Makes one profile of each series. A single profile keeps the message as its storage; each of several gets a copy of its
    /// samples.
    private func profiles(_ request: DecodedPush, _ bytes: consuming ByteBuffer) throws(DecodedPush.Malformed) -> [ReceivedProfile] {
        if request.series.count == 1 {
            let series = request.series[0]
            return [ReceivedProfile(call.content.copy(labels: series.labels, samples: series.samples), body: bytes)]
        }
        grow(request.series.flatMap(\.samples).reduce(0) { $0 + $1.range.count })
        let head = ReceivedProfile(call.content, body: ByteBuffer())
        var profiles: [ReceivedProfile] = []
        for series in request.series {
            var body = ByteBuffer()
            var samples: [ProfileContent.Sample] = []
            for sample in series.samples {
                let start = body.count
                do throws(SystemError) {
                    try bytes.withBytes { (all) throws(SystemError) in try unsafe body.append(all.extracting(sample.range).bytes) }
                } catch { throw DecodedPush.Malformed("no memory for a sample") }
                samples.append(ProfileContent.Sample(id: sample.id, range: start..<body.count))
            }
            profiles.append(ReceivedProfile(call.content.copy(labels: series.labels, samples: samples), body: body, sharing: head))
        }
        return profiles
    }
}
