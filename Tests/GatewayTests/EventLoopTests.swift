import Glibc
import LinuxSystem
import Synchronization
import Testing

@testable import HTTPServer
@testable import Telemetry

@Suite("Event loop")
struct EventLoopTests {
    private struct NoRoutes: Routes {
        func admit(_ head: RequestHead) -> Admission { .refuse(.error(404, "not found")) }
        func isOpen(_ head: RequestHead) -> Bool { true }
    }

    @Test("A connection is closed when its loop stops, also one that comes in the same round", arguments: [false, true])
    func stop(isLate: Bool) throws {
        let http = HTTPConfig(address: "127.0.0.1", port: 0)
        let service = Listener.Service(http, security: try Listener.Security(http), routes: NoRoutes())
        let listener = try Listener(
            "test", service, bodies: BodyBudget(limit: 1 << 20), counters: ListenerCounters(), share: ConnectionShare())
        let loop = try EventLoop()
        try loop.start("test", number: 0)
        var ends: [Int32] = [-1, -1]
        try #require(socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_NONBLOCK.rawValue), 0, &ends) == 0)
        let client = FileDescriptor(owning: ends[0])
        let server = Mutex<FileDescriptor?>(FileDescriptor(owning: ends[1]))
        loop.post { table in
            if isLate { table.stop() }
            if let socket = server.withLock({ $0.take() }) { table.add(socket, from: .local, listener) }
        }
        loop.stop()
        var byte: UInt8 = 0
        #expect(recv(client.number, &byte, 1, 0) == 0, "the end of the connection")
    }
}
