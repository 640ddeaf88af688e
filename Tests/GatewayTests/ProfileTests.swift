import LinuxSystem
import PluginABI
import Testing

@testable import PluginHost
@testable import Profiles

@Suite("Profiles in the plugin interface")
struct ProfileTests {
    private static func content(samples: [ProfileContent.Sample]) -> ProfileContent {
        var content = ProfileContent(
            api: .push, receivedAt: 1, from: 2, until: 3, tenant: "t", path: "/p", query: "q=1", format: .jfr, samples: samples)
        content.labels["b"] = "ü"
        content.labels["a"] = ""
        content.headers = [Label(name: "user-agent", value: "x")]
        (content.contentType, content.contentEncoding, content.peer) = ("c/t", "gzip", "192.0.2.7")
        return content
    }

    private static func body(_ text: String) throws -> ByteBuffer {
        var body = ByteBuffer()
        try body.append(Array(text.utf8).span.bytes)
        return body
    }

    @Test("The view has every text, label, header and sample")
    func view() throws {
        let samples = [
            ProfileContent.Sample(id: "one", range: 0..<5), ProfileContent.Sample(range: 5..<5), ProfileContent.Sample(range: 5..<10),
        ]
        let profile = ReceivedProfile(Self.content(samples: samples), body: try Self.body("helloworld"))
        let view = profile.view.pointee
        #expect((view.size, view.sequence, view.api) == (MemoryLayout<gw_profile>.size, profile.sequence, .push))
        #expect([view.received_ns, view.from_ns, view.until_ns] == [1, 2, 3])
        let texts = [view.tenant, view.path, view.query, view.format, view.content_type, view.content_encoding, view.peer].map(\.text)
        #expect(texts == ["t", "/p", "q=1", "jfr", "c/t", "gzip", "192.0.2.7"])
        #expect(
            UnsafeBufferPointer(start: view.labels, count: view.label_count).map { "\($0.name.text)=\($0.value.text)" } == ["a=", "b=ü"])
        #expect(
            UnsafeBufferPointer(start: view.headers, count: view.header_count).map { "\($0.name.text)=\($0.value.text)" } == [
                "user-agent=x"
            ])
        let seen = UnsafeBufferPointer(start: view.samples, count: view.sample_count).map { "\($0.id.text):\($0.bytes.text)" }
        #expect(seen == ["one:hello", ":", ":world"])
    }

    @Test("A profile ends at its until, or else when it was received")
    func end() throws {
        var content = Self.content(samples: [])
        #expect(ReceivedProfile(content, body: ByteBuffer()).endedAt == 3)
        content.until = 0
        #expect(ReceivedProfile(content, body: ByteBuffer()).endedAt == 1)
    }

    @Test("A profile is the same after it was encoded and decoded, with a peer and without", arguments: ["192.0.2.7", "2001:db8::7", ""])
    func coding(peer: String) throws {
        var content = Self.content(samples: [ProfileContent.Sample(id: "one", range: 0..<5)])
        content.peer = peer
        let profile = ReceivedProfile(content, body: try Self.body("hello"))
        var encoded = ByteBuffer()
        try encoded.append(profile.encodedHead.span.bytes)
        try encoded.append(Array("hello".utf8).span.bytes)
        #expect(encoded.count == profile.encodedByteCount)
        let decoded = ReceivedProfile.decode(encoded, at: 0, sequence: 1)
        let view = try #require(decoded).view.pointee
        #expect(view.peer.text == peer && view.header_count == 1 && view.headers?.pointee.name.text == "user-agent")
        #expect(view.samples?.pointee.bytes.text == "hello")
    }

    @Test("An empty body is one empty sample")
    func empty() throws {
        let profile = try ReceivedProfile.sample()
        #expect(profile.view.pointee.sample_count == 1)
        #expect(try #require(profile.view.pointee.samples).pointee.bytes.count == 0)
    }

    @Test("Each byte of the body counts as a byte")
    func cost() throws {
        #expect(try ReceivedProfile.sample(body: 1000).byteCount == ReceivedProfile.emptyCost + 1000)
    }

    @Test("Sequences increase")
    func sequence() throws {
        let sequences = try (0..<10).map { _ in try ReceivedProfile.sample().sequence }
        #expect(zip(sequences, sequences.dropFirst()).allSatisfy(<))
    }

    @Test("The view leads back to its profile, which lives as long as it is retained")
    func owner() throws {
        weak var watched: ReceivedProfile?
        let view: UnsafePointer<gw_profile>
        do {
            let profile = try ReceivedProfile.sample(body: 3)
            (watched, view) = (profile, profile.view)
            #expect(ReceivedProfile.owner(of: view).takeUnretainedValue() === profile)
            _ = ReceivedProfile.owner(of: view).retain()
        }
        #expect(watched != nil)
        #expect(view.pointee.samples?.pointee.bytes.text == "xxx")
        ReceivedProfile.owner(of: view).release()
        #expect(watched == nil)
    }
}
