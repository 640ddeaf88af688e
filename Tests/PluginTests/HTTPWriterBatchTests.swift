import PluginABI
import Testing

@testable import TestSupport

@Suite("Batches of HTTPWriter, and labels that /ingest cannot carry", .bothClients)
struct HTTPWriterBatchTests {
    /// Delivers Pushes that all wait while the first request is held, and returns their outcomes.
    private func deliver(
        _ count: Int, _ members: String, tenant: (Int) -> String = { _ in "" }, samples: Int = 10,
        answer: @escaping @Sendable (Int, UpstreamServer.Request) -> String?
    ) throws -> (outcomes: [TestHost.Finish], requests: [UpstreamServer.Request]) {
        let gate = Gate()
        let server = try UpstreamServer { index, request in
            if index == 0 { gate.wait() }
            return answer(index, request)
        }
        let writer = try HTTPWriterTests.writer(#"{"endpoint":[{"url":"\#(server.url)"}],\#(members)}"#)
        let profiles = (0...count).map { number in
            TestProfile(
                sequence: UInt64(number), api: .push, tenant: tenant(number),
                samples: [("id-\(number);", [UInt8](repeating: 120, count: samples))])
        }
        let first = writer.begin(profiles[0])
        _ = try server.requests(1)
        let tokens = profiles.dropFirst().map { writer.begin($0) }
        gate.open()
        let outcomes = try withExtendedLifetime(profiles) { try ([first] + tokens).map { try writer.host.outcome(of: $0) } }
        return (Array(outcomes.dropFirst()), Array(server.requests.dropFirst()))
    }

    /// The numbers of the profiles in each request.
    private func numbers(_ requests: [UpstreamServer.Request]) -> [[Int]] {
        requests.map { request in
            String(decoding: request.body, as: UTF8.self).components("id-").dropFirst().compactMap { Int($0.prefix { $0 != ";" }) }
        }
    }

    @Test("Without batches each profile is its own request")
    func off() throws {
        let (outcomes, requests) = try deliver(5, #""external_labels":{}"#) { _, _ in UpstreamServer.response("200 OK") }
        #expect(outcomes.allSatisfy { $0.status == .delivered })
        #expect(numbers(requests).sorted { $0[0] < $1[0] } == (1...5).map { [$0] })
    }

    @Test("Waiting profiles share requests within the limits, and each is sent once")
    func limits() throws {
        let (outcomes, requests) = try deliver(50, #""batch":{"max_profiles":10,"max_bytes":"1MiB"}"#) { _, _ in
            UpstreamServer.response("200 OK")
        }
        #expect(outcomes.allSatisfy { $0.status == .delivered })
        let sent = numbers(requests)
        #expect(sent.flatMap(\.self).sorted() == Array(1...50))
        #expect(sent.map(\.count) == [10, 10, 10, 10, 10], "what came during a request went out together after it")
        let (_, small) = try deliver(8, #""batch":{"max_bytes":500}"#, samples: 300) { _, _ in UpstreamServer.response("200 OK") }
        #expect(numbers(small).allSatisfy { $0.count == 1 }, "one always fits, two do not")
    }

    @Test("Profiles of different tenants do not share a request")
    func tenants() throws {
        let (outcomes, requests) = try deliver(20, #""batch":{}"#, tenant: { $0 % 2 == 0 ? "even" : "odd" }) { _, _ in
            UpstreamServer.response("200 OK")
        }
        #expect(outcomes.allSatisfy { $0.status == .delivered })
        for (request, numbers) in zip(requests, numbers(requests)) {
            let isEven = request.headers.contains("X-Scope-OrgID: even")
            #expect(numbers.allSatisfy { $0 % 2 == (isEven ? 0 : 1) })
        }
    }

    @Test("In a rejected batch, only profiles that are rejected alone are rejected")
    func rejected() throws {
        let (outcomes, requests) = try deliver(20, #""batch":{}"#) { _, request in
            String(decoding: request.body, as: UTF8.self).contains("id-7;")
                ? UpstreamServer.response("400 No") : UpstreamServer.response("200 OK")
        }
        #expect(outcomes.map(\.status) == (1...20).map { $0 == 7 ? .rejected : .delivered })
        #expect(numbers(requests).filter { $0.contains(7) }.last == [7])
    }

    @Test("The profiles of a failed batch are retried one by one")
    func retried() throws {
        let (outcomes, _) = try deliver(6, #""batch":{}"#) { index, _ in UpstreamServer.response(index == 0 ? "200 OK" : "503 Later") }
        #expect(outcomes.allSatisfy { $0.status == .retry })
    }

    static let refusals = ["500 No", "502 No", "503 No", "429 No"]

    @Test("In a batch that fails temporarily, only profiles that fail alone are retried", arguments: refusals)
    func refused(status: String) throws {
        let (outcomes, requests) = try deliver(40, #""batch":{}"#) { _, request in
            UpstreamServer.response(String(decoding: request.body, as: UTF8.self).contains("id-7;") ? status : "200 OK")
        }
        #expect(outcomes.map(\.status) == (1...40).map { $0 == 7 ? .retry : .delivered })
        #expect(numbers(requests).count { $0.contains(7) } == 2, "once with the others and once by itself")
    }

    @Test("A destination that is down does not get all parts of a batch", arguments: [2, 64])
    func away(count: Int) throws {
        let (outcomes, requests) = try deliver(count, #""batch":{}"#) { index, _ in
            UpstreamServer.response(index == 0 ? "200 OK" : "503 Later")
        }
        #expect(outcomes.allSatisfy { $0.status == .retry && [0, 503].contains($0.httpStatus) })
        // Only profiles that were sent alone have a status.
        #expect((1...requests.count).contains(outcomes.count { $0.httpStatus == 503 }))
        // Five equal failures end it, and three more requests may be open by then.
        #expect(requests.count <= 1 + min(count, 5 + 3))
    }

    @Test("A batch without an answer is not split")
    func unanswered() throws {
        let (outcomes, requests) = try deliver(20, #""batch":{}"#) { index, _ in index == 0 ? UpstreamServer.response("200 OK") : nil }
        #expect(outcomes.allSatisfy { $0.status == .retry && $0.httpStatus == 0 })
        #expect(numbers(requests).allSatisfy { $0.count == 20 })
    }

    @Test("A profile that failed alone is sent alone again, and blocks no batch")
    func alone() throws {
        let gate = Gate()
        let server = try UpstreamServer { index, request in
            let isBad = String(decoding: request.body, as: UTF8.self).contains("id-1;")
            if isBad, index > 0 { gate.wait() }
            return UpstreamServer.response(isBad ? "500 No" : "200 OK")
        }
        let writer = try HTTPWriterTests.writer(#"{"endpoint":[{"url":"\#(server.url)"}],"batch":{}}"#)
        func profile(_ number: UInt64) -> TestProfile {
            TestProfile(sequence: number, api: .push, samples: [("id-\(number);", Array("x".utf8))])
        }
        let bad = profile(1)
        #expect(try writer.deliver(bad).status == .retry)
        let again = writer.begin(bad, attempt: 2)
        _ = try server.requests(2)
        for number in UInt64(2)...5 { #expect(try writer.deliver(profile(number)).status == .delivered, "while the bad one is under way") }
        gate.open()
        #expect(try withExtendedLifetime(bad) { try writer.host.outcome(of: again).status } == .retry)
    }

    // MARK: Labels

    private static let unsafe: [(name: String, value: String)] = [("__name__", "app"), ("path", "a,b}"), ("service_name", "app")]

    @Test("With unsafe_labels push, a single pprof whose labels name= cannot carry is sent as a Push", arguments: [true, false])
    func unsafeLabels(isPush: Bool) throws {
        let server = try UpstreamServer(always: "200 OK")
        let members = isPush ? #","unsafe_labels":"push""# : ""
        let writer = try HTTPWriterTests.writer(#"{"endpoint":[{"url":"\#(server.url)"}],"external_labels":{"zone":"z"}\#(members)}"#)
        let outcome = try writer.deliver(TestProfile(labels: Self.unsafe, format: "pprof"))
        #expect(outcome.status == (isPush ? .delivered : .rejected))
        #expect(server.requests.map(\.target) == (isPush ? ["/push.v1.PusherService/Push"] : []))
        if isPush { #expect(String(decoding: server.requests[0].body, as: UTF8.self).contains("a,b}")) }
        for (format, type) in [("jfr", ""), ("pprof", "multipart/form-data; boundary=x")] {
            #expect(try writer.deliver(TestProfile(labels: Self.unsafe, format: format, contentType: type)).status == .rejected)
        }
        #expect(try writer.deliver(TestProfile()).status == .delivered)
        #expect(server.requests.last?.target.hasPrefix("/ingest?") == true)
    }
}

extension String {
    fileprivate func components(_ separator: String) -> [Substring] { self.split(separator: separator, omittingEmptySubsequences: false) }
}
