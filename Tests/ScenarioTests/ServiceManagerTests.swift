import Foundation
import Glibc
import Testing

@testable import TestSupport

/// The service manager's end of NOTIFY_SOCKET.
private final class NotifySocket {
    let number: Int32

    /// - Parameter name: a path, or `@` and a name in the abstract namespace.
    init(_ name: String) throws {
        number = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        try #require(Self.with(name) { Glibc.bind(number, $0, $1) } == 0)
        // The timeout ends a wait for a message that never comes.
        var patience = timeval(tv_sec: Int(Project.patience), tv_usec: 0)
        setsockopt(number, SOL_SOCKET, SO_RCVTIMEO, &patience, socklen_t(MemoryLayout<timeval>.size))
    }

    deinit { Glibc.close(number) }

    /// Calls the body with the socket address of this name.
    private static func with<T>(_ name: String, _ body: (UnsafePointer<sockaddr>, socklen_t) -> T) -> T {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        var path = Array(name.utf8)
        if path[0] == UInt8(ascii: "@") { path[0] = 0 }
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path) }
        let length = socklen_t(2 + path.count + (path[0] == 0 ? 0 : 1))
        return withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, length) }
        }
    }

    /// Sends messages until the socket is full.
    func fill(_ name: String) {
        let other = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        defer { Glibc.close(other) }
        while Self.with(name, { sendto(other, "FILLED=1", 8, Int32(MSG_DONTWAIT), $0, $1) }) == 8 {}
    }

    /// The lines of the next message.
    func next() throws -> [String] {
        var bytes = [UInt8](repeating: 0, count: 4096)
        let count = recv(number, &bytes, bytes.count, 0)
        try #require(count > 0, "a message came")
        return String(decoding: bytes[..<count], as: UTF8.self).split(separator: "\n").map(String.init)
    }

    /// Whether no message waits.
    var isEmpty: Bool {
        var byte: UInt8 = 0
        return recv(number, &byte, 1, Int32(MSG_DONTWAIT)) < 0 && errno == EAGAIN
    }
}

@Suite("Notifications to the service manager")
struct ServiceManagerTests {
    /// A config with this many archives as receivers.
    private func config(_ receivers: Int) -> String {
        let entries = (0..<receivers).map { ("a\($0)", ReceiverEntry.archive("archive\($0)")) }
        return GatewayProcess.config(
            listeners: GatewayProcess.listener(entries.map(\.0)), receivers: Dictionary(uniqueKeysWithValues: entries))
    }

    @Test("The manager gets READY, RELOADING with its time, READY after any outcome, and STOPPING", arguments: ["path", "abstract"])
    func messages(kind: String) throws {
        try Scenario.run { scenario in
            let name = kind == "path" ? scenario.path("notify") : "@\(scenario.folder)"
            let manager = try NotifySocket(name)
            let gateway = try GatewayProcess(scenario, config(1), environment: ["NOTIFY_SOCKET": name])
            #expect(try manager.next() == ["READY=1", "STATUS=Ready, receivers: 1"])
            for (text, status) in [
                (config(2), "STATUS=Ready, receivers: 2"), ("{", "STATUS=Ready; the config was not reloaded, see the log"),
            ] {
                try gateway.write(text, scenario)
                let before = try monotonicMicroseconds()
                gateway.process.signal(SIGHUP)
                let reloading = try manager.next()
                #expect(reloading.first == "RELOADING=1")
                let time = try #require(reloading.first { $0.hasPrefix("MONOTONIC_USEC=") }.flatMap { Int($0.dropFirst(15)) })
                #expect(try before...monotonicMicroseconds() ~= time)
                #expect(try manager.next() == ["READY=1", status])
            }
            gateway.process.signal(SIGTERM)
            #expect(try manager.next().first == "STOPPING=1")
            #expect(try gateway.process.waitForExit() == 0)
        }
    }

    @Test("A reload that ends after STOPPING sends no READY")
    func lateReload() throws {
        try Scenario.run { scenario in
            let name = scenario.path("notify")
            let manager = try NotifySocket(name)
            let delay = "\"shutdown_delay\": \"1h\","
            func config(_ what: String, more: String = "") throws -> String {
                let entry = "\"plugin\": \"\(scenario.path("libodd.so"))\", \"config\": { \"do\": \"\(what)\" }"
                return GatewayProcess.config(listeners: GatewayProcess.listener(["odd"]), receivers: ["odd": entry], more: delay + more)
            }
            try CPlugin.build("misbehaving.c", as: scenario.path("libodd.so"))
            let gateway = try GatewayProcess(scenario, config("nothing odd"), environment: ["NOTIFY_SOCKET": name])
            #expect(try manager.next().first == "READY=1")
            try gateway.write(config("create slowly", more: "\"unknown\": 1,"), scenario)
            gateway.process.signal(SIGHUP)
            #expect(try manager.next().first == "RELOADING=1")
            try gateway.process.waitForThreads(2, named: "rx-odd")
            gateway.process.signal(SIGTERM)
            #expect(try manager.next().first == "STOPPING=1")
            try scenario.write("", to: "go")
            try gateway.log.wait(for: "config not reloaded")
            gateway.process.signal(SIGTERM)
            _ = try gateway.process.waitForExit()
            #expect(manager.isEmpty)
        }
    }

    @Test("A manager with a watchdog gets signs of life until the gateway ends")
    func watchdog() throws {
        try Scenario.run { scenario in
            let name = scenario.path("notify")
            let manager = try NotifySocket(name)
            let gateway = try GatewayProcess(scenario, config(1), environment: ["NOTIFY_SOCKET": name, "WATCHDOG_USEC": "400000"])
            var message = try manager.next()
            while message == ["WATCHDOG=1"] { message = try manager.next() }
            #expect(message.first == "READY=1")
            for _ in 0..<3 { #expect(try manager.next() == ["WATCHDOG=1"]) }
            gateway.process.signal(SIGTERM)
            message = try manager.next()
            while message == ["WATCHDOG=1"] { message = try manager.next() }
            #expect(message.first == "STOPPING=1")
            #expect(try gateway.process.waitForExit() == 0)
        }
    }

    @Test("A watchdog that is meant for another process gets no sign of life")
    func watchdogOfOther() throws {
        try Scenario.run { scenario in
            let name = scenario.path("notify")
            let manager = try NotifySocket(name)
            let gateway = try GatewayProcess(
                scenario, config(1), environment: ["NOTIFY_SOCKET": name, "WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"])
            #expect(try manager.next().first == "READY=1")
            try gateway.send(1)
            #expect(try gateway.stop() == 0)
            #expect(try manager.next().first == "STOPPING=1")
        }
    }

    private func monotonicMicroseconds() throws -> Int {
        var time = timespec()
        try #require(clock_gettime(CLOCK_MONOTONIC, &time) == 0)
        return time.tv_sec * 1_000_000 + time.tv_nsec / 1000
    }

    @Test("A manager that reads nothing does not block the gateway, and gets READY once it reads")
    func busyManager() throws {
        try Scenario.run { scenario in
            let name = scenario.path("notify")
            let manager = try NotifySocket(name)
            manager.fill(name)
            let gateway = try GatewayProcess(scenario, config(1), environment: ["NOTIFY_SOCKET": name])
            try gateway.send(1)
            var message = try manager.next()
            while message == ["FILLED=1"] { message = try manager.next() }
            #expect(message.first == "READY=1")
            #expect(try gateway.stop() == 0)
        }
    }

    @Test(
        "The gateway starts although the socket is missing or its name is invalid",
        arguments: ["/nonexistent/notify", "@", String(repeating: "n", count: 200)])
    func noManager(name: String) throws {
        try Scenario.run { scenario in
            let gateway = try GatewayProcess(scenario, config(1), environment: ["NOTIFY_SOCKET": name])
            try gateway.send(1)
            #expect(try gateway.stop() == 0)
        }
    }
}
