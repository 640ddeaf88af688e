public import Glibc

/// A failed system call: the operation, its object, and the `errno` value.
public struct SystemError: Error, CustomStringConvertible, Sendable, Equatable {
    /// The call and its object, for people: `open ./archive`.
    public let operation: String
    /// The `errno` value.
    public let code: Int32

    /// Makes an error from `errno`, which must still be that of the failed call.
    public init(_ operation: String, code: Int32 = errno) {
        self.operation = operation
        self.code = code
    }

    /// True when the process or the machine has no free descriptor: the operation itself is not at fault and may succeed soon.
    public var isLackOfDescriptors: Bool { code == EMFILE || code == ENFILE }

    /// The error for a link where links are not followed.
    static func link(_ path: String) -> SystemError { SystemError("open \(path), which is a link and is not followed", code: ELOOP) }

    /// The operation and the C library's message: `open ./archive: No such file or directory`.
    public var description: String { "\(operation): \(Self.text(of: code))" }

    /// The C library's message for an `errno` value.
    public static func text(of code: Int32) -> String {
        var buffer: [CChar] = Array(repeating: 0, count: 128)
        guard unsafe strerror_r(code, &buffer, buffer.count) == 0 else { return "error \(code)" }
        return String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}

/// Repeats a system call while it is interrupted by a signal.
@inline(__always)
func retrying<T: SignedInteger>(_ call: () -> T) -> T {
    while true {
        let result = call()
        if result != -1 || errno != EINTR { return result }
    }
}
