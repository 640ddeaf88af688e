import Foundation
import Glibc
import Testing

@testable import LinuxSystem
@testable import TestSupport

@Suite("Listening Unix sockets")
struct SocketFileTests {
    private func mode(_ path: String) -> UInt32? {
        var status = stat()
        return lstat(path, &status) == 0 ? status.st_mode & 0o7777 : nil
    }

    /// Whether somebody accepts connections at a path.
    private func connects(_ path: String) throws -> Bool {
        let probe = TestSocket(owning: Glibc.socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0))
        return try #require(SocketAddress(path: path)).errno { connect(probe.number, $0, $1) } == 0
    }

    @Test("The file has exactly the mode that was asked for", arguments: [UInt32(0o600), 0o660, 0o666, 0o777])
    func modes(bits: UInt32) throws {
        let folder = try TestFolder()
        let path = folder.path("s")
        let socket = try Socket.listen(path: path, mode: bits)
        let (isOpen, isConnected) = (socket.number >= 0, try connects(path))
        #expect(mode(path) == bits && isConnected && isOpen)
        let file = try SocketFile(path)
        try file.set(mode: 0o640)
        #expect(mode(path) == 0o640)
    }

    @Test("A socket at which nobody listens any more is replaced, and one at which somebody listens is not")
    func stale() throws {
        let folder = try TestFolder()
        let path = folder.path("s")
        do { _ = try Socket.listen(path: path, mode: 0o600) }
        #expect(mode(path) != nil)
        // A process that another test starts has the socket too until it has closed what it inherited.
        let limit = Date(timeIntervalSinceNow: Project.patience)
        while try connects(path) {
            guard Date() < limit else { throw NeverCame(what: "the end of the first socket", seen: []) }
            usleep(10_000)
        }
        let second = try Socket.listen(path: path, mode: 0o600)
        let error = #expect(throws: SystemError.self) { _ = try Socket.listen(path: path, mode: 0o600) }
        #expect(error?.code == EADDRINUSE && error?.operation == "listen on unix:\(path)")
        let (isOpen, isConnected) = (second.number >= 0, try connects(path))
        #expect(isConnected && isOpen, "the first one goes on")
    }

    @Test("A socket at which somebody listens is not replaced while nobody can connect, since as many wait as may")
    func crowded() throws {
        let folder = try TestFolder()
        let path = folder.path("s")
        let address = try #require(SocketAddress(path: path))
        let type = Int32(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue)
        let own = TestSocket(owning: Glibc.socket(AF_UNIX, type, 0))
        #expect(address.errno { bind(own.number, $0, $1) } == 0 && Glibc.listen(own.number, 0) == 0)
        let waiting = (0..<3).map { _ in TestSocket(owning: Glibc.socket(AF_UNIX, type, 0)) }
        #expect(waiting.map { socket in address.errno { connect(socket.number, $0, $1) } }.contains(EAGAIN))
        let error = #expect(throws: SystemError.self) { _ = try Socket.listen(path: path, mode: 0o600) }
        #expect(error?.code == EADDRINUSE && mode(path) != nil)
        #expect(own.number >= 0 && waiting.count == 3, "they are open until here")
    }

    @Test("Whatever is not a socket is left alone", arguments: ["file", "folder", "link"])
    func others(kind: String) throws {
        let folder = try TestFolder()
        let path = folder.path("s")
        switch kind {
        case "file": _ = try folder.write("s", "precious")
        case "folder": mkdir(path, 0o700)
        default:
            // A link to a dead socket is not followed either.
            do { _ = try Socket.listen(path: folder.path("other"), mode: 0o600) }
            symlink(folder.path("other"), path)
        }
        let before = mode(path)
        let error = #expect(throws: SystemError.self) { _ = try Socket.listen(path: path, mode: 0o600) }
        #expect(error?.code == ENOTSOCK && before != nil && mode(path) == before)
    }

    @Test("The file is removed with its last owner, but not one that came in its place")
    func removal() throws {
        let folder = try TestFolder()
        let path = folder.path("s")
        let socket = try Socket.listen(path: path, mode: 0o600)
        var one: SocketFile? = try SocketFile(path)
        var other = one
        one = nil
        #expect(mode(path) != nil && one == nil && other != nil)
        other = nil
        let isOpen = socket.number >= 0
        #expect(mode(path) == nil && isOpen)
        var owner: SocketFile?
        do {
            _ = try Socket.listen(path: path, mode: 0o600)
            owner = try SocketFile(path)
            unlink(path)
        }
        _ = try folder.write("s", "another")
        owner = nil
        #expect(mode(path) != nil && owner == nil)
    }

    @Test("A path may have 107 bytes", arguments: [(106, true), (107, true), (108, false)])
    func longest(count: Int, isPossible: Bool) throws {
        let folder = try TestFolder()
        let path = folder.path(String(repeating: "s", count: count - folder.path("").utf8.count))
        #expect(path.utf8.count == count && (SocketAddress(path: path) != nil) == isPossible)
        guard isPossible else {
            #expect(#expect(throws: SystemError.self) { _ = try Socket.listen(path: path, mode: 0o600) }?.code == ENAMETOOLONG)
            return
        }
        let socket = try Socket.listen(path: path, mode: 0o600)
        let (isOpen, isConnected) = (socket.number >= 0, try connects(path))
        #expect(isConnected && isOpen)
    }

    @Test("An empty path and one with a NUL are no addresses", arguments: ["", "a\u{0}b", "\u{0}a"])
    func noPath(path: String) { #expect(SocketAddress(path: path) == nil) }

    @Test("A folder that is missing, or may not be written, is an error")
    func folders() throws {
        let folder = try TestFolder()
        #expect(#expect(throws: SystemError.self) { _ = try Socket.listen(path: folder.path("no/s"), mode: 0o600) }?.code == ENOENT)
    }
}
