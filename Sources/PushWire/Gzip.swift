import CZlib
public import LinuxSystem

/// gzip (RFC 1952), with zlib.
public enum Gzip {
    /// The reason why data could not be inflated: it is not valid gzip, too large, or more than memory can hold.
    public enum Failure: Error, Equatable {
        case malformed
        /// The content exceeds the limit; its size is unknown, because finding it out would require inflating it.
        case tooLarge
        /// The content is smaller than the data by more than was allowed.
        case tooSparse
        case noRoom
    }

    /// How many bytes are inflated at a time, so that a decompression bomb is noticed soon after the limit.
    private static let step = 64 * 1024
    /// How many bytes are read at a time, so that data which inflates to less than it is is noticed soon.
    private static let piece = 16 * 1024

    /// Inflates all members of `input`, which must contain nothing else, to at most `limit` bytes.
    ///
    /// - Parameters:
    ///   - excess: how many bytes of `input` may be read beyond those that they inflate to. Such data takes long for what it is.
    ///   - grow: called with the size of each piece of the output.
    public static func inflate(
        _ input: borrowing ByteBuffer, limit: Int, excess: Int = .max, grow: (Int) -> Void = { _ in }
    ) throws(Failure) -> ByteBuffer {
        var output = ByteBuffer()
        var stream = unsafe z_stream()
        guard unsafe czlib_inflate_gzip_init(&stream) == Z_OK else { throw .noRoom }
        defer { unsafe inflateEnd(&stream) }
        unsafe stream.next_in = input.address?.assumingMemoryBound(to: Bytef.self)
        var unread = input.count
        while true {
            if unsafe stream.avail_in == 0 {
                unsafe stream.avail_in = uInt(min(unread, piece))
                unsafe unread -= Int(stream.avail_in)
            }
            // One byte beyond the limit shows that the content is too large.
            let room = max(1, min(step, limit - output.count + 1))
            let before = output.count
            let result: Int32
            do throws(SystemError) {
                result = try unsafe output.append(room: room) { unsafe inflate(&stream, into: $0) }
            } catch { throw .noRoom }
            guard output.count <= limit else { throw .tooLarge }
            grow(output.count - before)
            let left = unsafe unread + Int(stream.avail_in)
            guard input.count - left - output.count <= excess else { throw .tooSparse }
            switch result {
            case Z_STREAM_END where left == 0: return output
            case Z_STREAM_END: unsafe inflateReset(&stream)
            case Z_OK: continue
            default: throw .malformed
            }
        }
    }

    /// - Returns: the number of bytes written, and zlib's result.
    private static func inflate(_ stream: inout z_stream, into room: UnsafeMutableRawBufferPointer) -> (Int, Int32) {
        unsafe stream.next_out = room.baseAddress?.assumingMemoryBound(to: Bytef.self)
        unsafe stream.avail_out = uInt(room.count)
        let result = unsafe CZlib.inflate(&stream, Z_NO_FLUSH)
        return (unsafe room.count - Int(stream.avail_out), result)
    }

    /// Deflates a short text, such as a response.
    public static func deflate(_ input: [UInt8]) -> [UInt8]? {
        guard let output = unsafe deflate(input.span.bytes) else { return nil }
        return output.withBytes { bytes in bytes.indices.map { bytes[$0] } }
    }

    /// Deflates a message; nil when there is not enough memory, or the message has more than 2 GiB.
    public static func deflate(_ input: RawSpan) -> ByteBuffer? {
        var output = ByteBuffer()
        var stream = unsafe z_stream()
        // Half of zlib's range, because incompressible data grows by some bytes.
        guard input.byteCount <= Int(uInt.max) / 2, unsafe czlib_deflate_gzip_init(&stream) == Z_OK else { return nil }
        defer { unsafe deflateEnd(&stream) }
        let room = Int(unsafe deflateBound(&stream, uLong(input.byteCount))) + 32
        do throws(SystemError) {
            let result = unsafe try input.withUnsafeBytes { source throws(SystemError) in
                unsafe try output.append(room: room) { target in
                    unsafe stream.next_in = UnsafeMutablePointer(mutating: source.assumingMemoryBound(to: Bytef.self).baseAddress)
                    unsafe stream.avail_in = uInt(source.count)
                    unsafe stream.next_out = target.assumingMemoryBound(to: Bytef.self).baseAddress
                    unsafe stream.avail_out = uInt(target.count)
                    let result = unsafe CZlib.deflate(&stream, Z_FINISH)
                    return unsafe (Int(stream.total_out), result)
                }
            }
            guard result == Z_STREAM_END else { return nil }
        } catch { return nil }
        return output
    }
}
