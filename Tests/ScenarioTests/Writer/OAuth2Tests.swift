import Testing

@testable import TestSupport

@Suite("OAuth2 client credentials", .serialized)
struct OAuth2Tests {
    private func members(_ tokens: String, _ secret: String = #""client_secret": "s3cret""#, more: String = "") -> String {
        #""oauth2": { "client_id": "gateway", \#(secret), "token_url": "\#(tokens)", \#(more) }"#
    }

    /// Runs a test against a gateway, its upstream and a token server, and checks that no secret is shown.
    private func run(
        _ settings: String = "", secret: String = #""client_secret": "s3cret""#, more: String = "",
        retry: String = ReceiverEntry.quickRetry,
        _ body: (Scenario, GatewayProcess, Recorder, TokenServer) throws -> Void
    ) throws {
        try Scenario.run { scenario in
            let (upstream, tokens) = (try Recorder(scenario), try TokenServer(scenario, settings))
            try scenario.write("s3cret\n", to: "secret")
            let gateway = try GatewayProcess(
                scenario, up: ReceiverEntry.endpoint(upstream.url, members(tokens.url, secret, more: more), more: retry))
            try body(scenario, gateway, upstream, tokens)
            let shown = gateway.log.lines + (try gateway.metrics().lines)
            #expect(shown.allSatisfy { !$0.contains("s3cret") && !$0.contains("token-") }, "no secret is shown")
        }
    }

    private func authorizations(_ upstream: Recorder) -> [String] { upstream.requests.flatMap { $0.header("Authorization") } }

    @Test(
        "One token serves all deliveries, also those that wait for it",
        arguments: ["\"client_secret\": \"s3cret\"", "\"client_secret_file\": \"secret\""])
    func once(secret: String) throws {
        try run("\"hold\": true", secret: secret) { _, gateway, upstream, tokens in
            try gateway.send(50)
            #expect(try gateway.push(.numbered(1)).status == 200)
            try tokens.wait(count: 1)
            #expect(upstream.requests.isEmpty, "nothing is sent without a token")
            try tokens.set("\"hold\": false")
            try gateway.waitForDeliveries(51)
            try gateway.send(50, from: 50)
            try gateway.waitForDeliveries(101)
            #expect(authorizations(upstream) == Array(repeating: "Bearer token-1", count: 101))
            let request = try #require(try tokens.requests.first)
            #expect(try tokens.requests.count == 1)
            #expect(request.form == ["grant_type": ["client_credentials"]])
            #expect((request.place, request.path) == ("basic", "/token"))
            #expect(request.header("Content-Type") == ["application/x-www-form-urlencoded"])
            #expect(request.header("Authorization") == ["Basic Z2F0ZXdheTpzM2NyZXQ="])
            #expect(try gateway.metrics().retries() == 0)
        }
    }

    @Test("Scopes and further parameters are sent in the form")
    func form() throws {
        try run(more: #""scopes": ["profiles:write", "more"], "endpoint_params": { "audience": "a&b =ü", "resource": "x" }"#) {
            _, gateway, _, tokens in
            try gateway.send(1)
            try gateway.waitForDeliveries(1)
            #expect(
                try tokens.requests.first?.form == [
                    "grant_type": ["client_credentials"], "scope": ["profiles:write more"], "audience": ["a&b =ü"], "resource": ["x"],
                ])
        }
    }

    @Test("A server that refuses Basic gets the credentials in the form, from then on")
    func body() throws {
        try run("\"accept\": [\"body\"], \"expires_in\": 1") { _, gateway, upstream, tokens in
            try gateway.send(until: "a second token") { authorizations(upstream).last == "Bearer token-2" }
            #expect(try tokens.requests.prefix(3).map(\.place) == ["basic", "body", "body"])
            #expect(try tokens.requests.last?.form["client_secret"] == ["s3cret"])
            #expect(try tokens.requests.last?.header("Authorization") == [])
            #expect(try gateway.metrics().retries() == 0)
        }
    }

    @Test("A token is reused, and renewed ten seconds before it expires", arguments: [10, 11, 3600])
    func expiry(seconds: Int) throws {
        try run("\"expires_in\": \(seconds)") { _, gateway, upstream, tokens in
            if seconds > 11 {
                for number in 1...20 {
                    try gateway.send(1, from: number)
                    try gateway.waitForDeliveries(number)
                }
                #expect(try tokens.requests.count == 1)
            } else {
                try gateway.send(until: "a second token") { authorizations(upstream).last == "Bearer token-2" }
                #expect(try gateway.metrics().retries() == 0)
            }
        }
    }

    @Test("An upstream's 401 discards the token, and the next profile uses a new one")
    func refusedToken() throws {
        try run { _, gateway, upstream, tokens in
            try gateway.send(1)
            try gateway.waitForDeliveries(1)
            try upstream.answer(401)
            try gateway.send(1)
            try gateway.waitForOutcomes(2)
            try upstream.answer()
            try gateway.send(1)
            try gateway.waitForDeliveries(2)
            #expect(authorizations(upstream).first == "Bearer token-1")
            #expect(authorizations(upstream).last == "Bearer token-\(try tokens.requests.count)")
            #expect(try tokens.requests.count >= 2)
        }
    }

    @Test("A revoked token loses no profile and causes one token request")
    func revoked() throws {
        try run { _, gateway, upstream, tokens in
            try gateway.send(1)
            try gateway.waitForDeliveries(1)
            try upstream.reject("Bearer token-1", 401)
            try gateway.send(1)
            try gateway.waitForDeliveries(2)
            #expect(authorizations(upstream) == ["Bearer token-1", "Bearer token-1", "Bearer token-2"])
            #expect(try tokens.requests.count == 2)
            try gateway.waitForMetrics("health") { $0.health("up") == 0 }
        }
    }

    @Test("A token that is revoked during deliveries loses no profile and causes one token request")
    func revokedOnTheWay() throws {
        try run { _, gateway, upstream, tokens in
            try gateway.send(1)
            try gateway.waitForDeliveries(1)
            try upstream.reject("Bearer token-1", 401)
            try upstream.hold()
            try gateway.send(10, from: 1)
            try upstream.wait(count: 11)
            try upstream.answer()
            let metrics = try gateway.waitForOutcomes(11)
            #expect(metrics.delivered("up") == 11)
            #expect(metrics.health("up") == 0)
            #expect(try tokens.requests.count == 2)
            #expect(authorizations(upstream).suffix(10) == Array(repeating: "Bearer token-2", count: 10)[...])
        }
    }

    @Test("Shutdown does not wait for a silent token endpoint")
    func shutdown() throws {
        try Scenario.run { scenario in
            let (upstream, tokens) = (try Recorder(scenario), try TokenServer(scenario, "\"hold\": true"))
            let gateway = try GatewayProcess(
                scenario, receivers: ["up": ReceiverEntry.endpoint(upstream.url, members(tokens.url))],
                more: "\"shutdown_timeout\": \"200ms\",")
            try gateway.send(5)
            try tokens.wait(count: 1)
            #expect(try gateway.stop() == 0)
            #expect(upstream.requests.isEmpty)
            try gateway.log.wait(for: "profiles lost at shutdown", "count=5")
        }
    }

    @Test("A failed token request is retried, and nothing is sent without a token", arguments: [400, 401, 429, 500, 503])
    func failingServer(status: Int) throws {
        try run("\"status\": \(status)") { _, gateway, upstream, tokens in
            try gateway.send(1)
            try gateway.waitForMetrics("a retry") { $0.retries() >= 2 }
            #expect(upstream.requests.isEmpty)
            try tokens.set("\"status\": 200")
            try gateway.waitForDeliveries(1)
            #expect(authorizations(upstream) == ["Bearer token-1"])
        }
    }

    @Test("A replaced client secret file is used")
    func rotation() throws {
        try run("\"expires_in\": 1", secret: "\"client_secret_file\": \"secret\"") { scenario, gateway, upstream, tokens in
            try gateway.send(1)
            try gateway.waitForDeliveries(1)
            try tokens.set("\"secret\": \"n3xt\"")
            try scenario.replace("secret", text: "n3xt")
            try gateway.send(until: "a token for the new secret") { authorizations(upstream).last == "Bearer token-2" }
            #expect(try gateway.metrics().retries() == 0)
        }
    }

    @Test("The token endpoint can use TLS with a client certificate, and its own proxy")
    func secureServer() throws {
        try Scenario.run { scenario in
            let certificates = try Certificates(scenario)
            let (upstream, tokens) = (try Recorder(scenario), try TokenServer(scenario))
            let verify = "ssl_client_certificate ca.pem; ssl_verify_client on;"
            let nginx = try Nginx(scenario, before: tokens.port, listen: "ssl", server: Nginx.tls("server", verify))
            let proxy = try Proxy(scenario, credentials: "user secret")
            let more = """
                "tls_config": { "ca_file": "\(certificates.authority)", "cert_file": "client.pem", "key_file": "client.key" },
                "proxy_url": "http://user:secret@\(proxy.address)"
                """
            let oauth = members("\(nginx.secureURL)/token", more: more)
            let gateway = try GatewayProcess(scenario, up: ReceiverEntry.endpoint(upstream.url, oauth))
            try gateway.send(3)
            try gateway.waitForDeliveries(3)
            #expect(authorizations(upstream) == Array(repeating: "Bearer token-1", count: 3))
            #expect(try nginx.requests.map(\.verified) == ["SUCCESS"])
            #expect(try proxy.requests == ["CONNECT localhost:\(nginx.port)"])
        }
    }
}
