import Testing

@testable import TestSupport

@Suite("Descriptors and large Pushes")
struct DescriptorTests {
    @Test("A Push with more samples than the process has descriptors is archived, and senders are still served", arguments: [64, 256])
    func manySamples(descriptors: Int) throws {
        try Scenario.run { scenario in
            let config = """
                { "admin": null,
                  "receive_http": { "default": { "http": { "listen_address": "127.0.0.1", "listen_port": 0, "server_write_timeout": "10m" }, "ack": "delivered", "forward_to": ["archive"] } },
                  "receivers": { "archive": { "plugin": "FileSink", "config": { "directory": "\(scenario.path("archive"))" } } } }
                """
            let file = try scenario.write(config, to: "gateway.json")
            let gateway = try scenario.start([
                "sh", "-c", "ulimit -n \(descriptors); exec \(try Project.builtGateway()) run --config \(file)",
            ])
            let line = try gateway.errors.wait(for: "msg=listening")
            let port = try #require(GatewayProcess.field("address", of: line)?.split(separator: ":").last.flatMap { UInt16($0) })
            // A series of 1000 samples without content, each of which is field 2 with no bytes.
            let series = [UInt8](repeating: 0, count: 2000).enumerated().map { $0.offset % 2 == 0 ? UInt8(0x12) : 0 }
            let message = [0x0A, 0xD0, 0x0F] + series
            let sender = try RawConnection(port)
            sender.send(
                "POST /push.v1.PusherService/Push HTTP/1.1\r\nHost: a\r\nContent-Type: application/proto\r\nContent-Length: \(message.count)\r\n\r\n"
            )
            sender.send(message)
            #expect(try sender.readResponse().status == 200)
            #expect(scenario.files(under: "archive").count == 1001)
            #expect(try RawConnection(port).post("/ingest?name=app", "x").status == 200)
            gateway.signal(15)
            #expect(try gateway.waitForExit() == 0)
        }
    }
}
