import Glibc

/// A system library that a command loads when it needs it, so that the server does not keep it in memory.
@safe public struct DynamicLibrary {
    private let handle: UnsafeMutableRawPointer

    /// The loader's message about what was not found.
    public struct Missing: Error, CustomStringConvertible {
        /// The loader's message, or another reason in words.
        public let description: String
        /// Makes an error from a message in words.
        public init(description: String) { self.description = description }
    }

    /// Opens a library by its versioned name: `libcurl.so.4`.
    public init(_ name: String) throws(Missing) {
        guard let handle = unsafe dlopen(name, RTLD_NOW | RTLD_LOCAL) else {
            throw Missing(description: unsafe dlerror().map { unsafe String(cString: $0) } ?? "cannot open \(name)")
        }
        unsafe self.handle = unsafe handle
    }

    /// The address of a function; valid until the process ends, because the library is never closed.
    public func function(_ name: String) throws(Missing) -> UnsafeMutableRawPointer {
        guard let address = unsafe dlsym(handle, name) else { throw Missing(description: "no function \(name)") }
        return unsafe address
    }
}
