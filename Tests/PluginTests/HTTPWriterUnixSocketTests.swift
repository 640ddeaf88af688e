import Foundation
import Glibc
import Testing

@testable import TestSupport

@Suite("HTTPWriter and servers at Unix sockets")
struct HTTPWriterUnixSocketTests {
    private static func writer(_ path: String, _ members: String = "", _ host: TestHost = TestHost()) throws -> LoadedInstance {
        try HTTPWriterTests.plugin.get().create(
            #"{"endpoint":[{"url":"http://up","name":"up","unix_socket":"\#(path)"\#(members)}]}"#, host)
    }

    @Test("However many requests wait for a connection, each ends when the server goes away")
    func goesAway() throws {
        let folder = try TestFolder()
        let path = folder.path("up.sock")
        let listening = try TestSocket.listening(at: path, backlog: 64)
        // The host gives room for 23 connections.
        let host = TestHost(descriptorShare: 31)
        let writer = try Self.writer(path, "", host)
        let profile = TestProfile()
        for _ in 0..<30_000 { _ = writer.begin(profile) }
        // This one cannot be sent, which is told once the others have been begun.
        #expect(try writer.deliver(TestProfile(tenant: "a\nb")).status == .rejected)
        let taken = (0..<23).map { _ in TestSocket(owning: accept(listening.number, nil, nil)) }
        unlink(path)
        listening.shutDown()
        for connection in taken { connection.shutDown() }
        let outcomes = try host.said.wait(for: "all outcomes") { $0.finishes.count > 30_000 ? $0.finishes.dropFirst() : nil }
        withExtendedLifetime(profile) { writer.destroy() }
        #expect(outcomes.allSatisfy { $0.status == .retry })
        #expect(outcomes.filter { $0.reason == "up: cannot connect to unix:\(path): No such file or directory" }.count == 30_000 - 23)
    }

    @Test("A server that is slow to accept connections gets all requests, and is not taken to be down")
    func slowToAccept() throws {
        let (folder, host) = (try TestFolder(), TestHost())
        let path = folder.path("up.sock")
        let listening = try TestSocket.listening(at: path, backlog: 1)
        let writer = try Self.writer(path, "", host)
        let profiles = (1...40).map { TestProfile(sequence: $0) }
        let open = profiles.map { writer.begin($0) }
        var ready = pollfd(fd: listening.number, events: Int16(POLLIN), revents: 0)
        #expect(poll(&ready, 1, 60_000) == 1)
        Thread.detachNewThread {
            while case let accepted = accept(listening.number, nil, nil), accepted >= 0 {
                let connection = TestSocket(owning: accepted)
                var buffer = [UInt8](repeating: 0, count: 65536)
                _ = recv(connection.number, &buffer, buffer.count, 0)
                let answer = Array("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".utf8)
                _ = Glibc.send(connection.number, answer, answer.count, Int32(MSG_NOSIGNAL))
            }
        }
        let statuses = try withExtendedLifetime(profiles) { try open.map { try host.outcome(of: $0).status } }
        #expect(statuses.allSatisfy { $0 == .delivered })
        #expect(host.said.current.healths.isEmpty)
        writer.destroy()
        listening.shutDown()
    }

    @Test("A server that accepts nothing is down after the timeout of some requests")
    func acceptsNothing() throws {
        let (folder, host) = (try TestFolder(), TestHost())
        let path = folder.path("up.sock")
        let listening = try TestSocket.listening(at: path, backlog: 1)
        let writer = try Self.writer(path, #","remote_timeout":"200ms""#, host)
        let profiles = (1...20).map { TestProfile(sequence: $0) }
        let open = profiles.map { writer.begin($0) }
        let outcomes = try withExtendedLifetime(profiles) { try open.map { try host.outcome(of: $0) } }
        #expect(outcomes.allSatisfy { $0.status == .retry })
        #expect(outcomes.last?.reason == "up: timed out after 200 ms while waiting for a connection")
        _ = try host.health("failed") { $0 == .failed }
        withExtendedLifetime(listening) { writer.destroy() }
    }
}
