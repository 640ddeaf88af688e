import Foundation
import Glibc
import Testing

@testable import TestSupport

@Suite("Authentication of senders", .serialized)
struct AccessTests {
    // No log line, output or status page may contain these two.
    static let token = "token-that-nobody-sees"
    static let password = "password-that-nobody-sees"
    /// A cheap password hash, so that tests do not wait for crypt.
    static let hash = "$6$rounds=1000$saltsaltsalt$"

    /// A line of the users file, hashed by Perl's crypt, which calls the C library.
    static func user(_ scenario: Scenario, _ name: String, _ password: String, _ setting: String = hash) throws -> String {
        let process = try scenario.start(["perl", "-e", "print crypt($ARGV[0], $ARGV[1])", password, setting])
        try process.waitForExit()
        return "\(name):\(process.output.lines.joined())\n"
    }

    static let auth = "\"auth\": { \"basic\": { \"users_file\": \"users\" }, \"bearer_tokens_file\": \"tokens\" },"

    /// Runs a test against a gateway whose listener requires authentication, and checks that no log or page shows a secret.
    private func run(
        _ auth: String = auth, users: [(String, String, String)] = [("alice", password, hash)], http: String = "", more: String = "",
        _ body: (Scenario, GatewayProcess) throws -> Void
    ) throws {
        try Scenario.run { scenario in
            let lines = try users.map { try Self.user(scenario, $0.0, $0.1, $0.2) }.joined()
            try scenario.write("# who may send\n\n" + lines, to: "users")
            try scenario.write("# tokens\n\(Self.token)\nsecond-token\n", to: "tokens")
            let listener = GatewayProcess.listener(["console"], http: http, more: auth + more)
            let config = GatewayProcess.config(
                listeners: listener, receivers: ["console": ReceiverEntry.console()], more: "\"log\": { \"level\": \"debug\" },")
            let gateway = try GatewayProcess(scenario, config)
            try body(scenario, gateway)
            let said = (gateway.log.lines + gateway.process.output.lines).joined() + (try Self.status(gateway))
            for secret in [Self.token, Self.password, "saltsalt", Data("alice:\(Self.password)".utf8).base64EncodedString()] {
                #expect(!said.contains(secret), "secrets are told to nobody")
            }
        }
    }

    /// The text of the status page.
    private static func status(_ gateway: GatewayProcess) throws -> String {
        let connection = try RawConnection(gateway.adminPort)
        connection.send("GET /api/v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n")
        return try connection.readResponse().text
    }

    /// An Authorization header with Basic credentials.
    static func basic(_ user: String, _ password: String) -> String {
        "Authorization: Basic \(Data("\(user):\(password)".utf8).base64EncodedString())\r\n"
    }

    static let challenges = ["Basic realm=\"profile-gateway\", charset=\"UTF-8\"", "Bearer realm=\"profile-gateway\""]

    /// Headers of a request, and the status that it must get.
    static let requests: [(String, Int)] = [
        ("", 401), (basic("alice", password), 200), (basic("alice", password + "x"), 401), (basic("alice", ""), 401),
        (basic("bob", password), 401),
        (basic("", ""), 401), ("Authorization: Basic !\r\n", 401), ("Authorization: Basic \r\n", 401),
        ("Authorization: Bearer \(token)\r\n", 200),
        ("authorization: BEARER second-token\r\n", 200), ("Authorization: Bearer \(token)x\r\n", 401), ("Authorization: Bearer\r\n", 401),
        ("Authorization: Digest username=alice\r\n", 401), ("Authorization: \(token)\r\n", 401),
        ("Authorization: Bearer x\r\nAuthorization: Bearer \(token)\r\n", 401),
    ]

    @Test("Passwords and tokens are accepted or refused on both APIs, and the connection stays open")
    func credentials() throws {
        try run { _, gateway in
            let connection = try RawConnection(gateway.port)
            // Each request is sent twice, because a remembered result must equal a computed one.
            for (headers, status) in Self.requests + Self.requests {
                let answer = try connection.post("/ingest?name=a", "a 1", headers: headers)
                #expect(answer.status == status, "\(headers)")
                let push = try connection.post(GatewayProcess.pushPath, "", headers: headers + "Content-Type: application/proto\r\n")
                #expect(push.status == status, "\(headers)")
                guard status == 401 else { continue }
                #expect(answer.headers.filter { $0.name == "WWW-Authenticate" }.map(\.value) == Self.challenges)
                #expect(answer.text.hasPrefix(#"{"code":"unauthenticated","message":"#))
            }
            #expect(try gateway.metrics().received == 2 * Self.requests.count { $0.1 == 200 })
        }
    }

    @Test("Large bodies and pipelined requests wait until their credentials are checked")
    func bodies() throws {
        try run { scenario, gateway in
            let file = try scenario.write(String(repeating: "main;work 1\n", count: 200_000), to: "body")
            let expectation = ["-u", "alice:\(Self.password)", "-H", "Expect: 100-continue", "--expect100-timeout", "600", "-m", "50"]
            let answer = try Curl.post(scenario, gateway.port, "/ingest?name=a", file: file, expectation)
            #expect(answer.status == 200)
            #expect(answer.head.hasPrefix("HTTP/1.1 100 Continue"))
            #expect(try Curl.post(scenario, gateway.port, "/ingest?name=a", file: file, ["-u", "alice:wrong"]).status == 401)
            let connection = try RawConnection(gateway.port)
            func request(_ password: String) -> String {
                "POST /ingest?name=a HTTP/1.1\r\nHost: a\r\n\(Self.basic("alice", password))Content-Length: 3\r\n\r\na 1"
            }
            connection.send(["1", Self.password, "2", Self.password, "3"].map(request).joined())
            #expect(try (0..<5).map { _ in try connection.readResponse().status } == [401, 200, 401, 200, 401])
        }
    }

    @Test("Checking a password delays no other sender, also when its sender leaves")
    func offTheLoop() throws {
        // This hash is so slow that answers to a token overtake it by far. Its thread gets little of a busy processor.
        let slow = "$6$rounds=1500000$saltsaltsalt$"
        let users = [("alice", Self.password, Self.hash), ("slow", "slow", slow)]
        try run(users: users, http: "\"server_read_timeout\": \"10m\",") { _, gateway in
            let slow = try RawConnection(gateway.port)
            slow.send("POST /ingest?name=slow HTTP/1.1\r\nHost: a\r\n\(Self.basic("slow", "slow"))Content-Length: 0\r\n\r\n")
            let leaving = try RawConnection(gateway.port)
            leaving.send("POST /ingest?name=left HTTP/1.1\r\nHost: a\r\n\(Self.basic("slow", "other"))Content-Length: 0\r\n\r\n")
            leaving.reset()
            let other = try RawConnection(gateway.port)
            for _ in 0..<20 {
                #expect(try other.post("/ingest?name=quick", "", headers: "Authorization: Bearer \(Self.token)\r\n").status == 200)
            }
            #expect(!slow.hasInput)
            #expect(try slow.readResponse().status == 200)
            try gateway.waitForMetrics("all deliveries") { $0.delivered("console") == 21 && $0.connections() == 2 }
        }
    }

    @Test("Password guesses get 401 or 503 with Retry-After and do not delay other senders")
    func guesses() throws {
        try run(users: [("alice", Self.password, "$6$rounds=100000$saltsaltsalt$")]) { _, gateway in
            let guessers = try (0..<60).map { number in
                let guesser = try RawConnection(gateway.port)
                guesser.send("POST /ingest?name=a HTTP/1.1\r\nHost: a\r\n\(Self.basic("root", "\(number)"))Content-Length: 0\r\n\r\n")
                return guesser
            }
            let alice = try RawConnection(gateway.port)
            #expect(try alice.post("/ingest?name=a", "", headers: Self.basic("alice", Self.password)).status == 200)
            #expect(guessers.contains { !$0.hasInput }, "she was not behind all of them")
            let answers = try guessers.map { try $0.readResponse() }
            #expect(Set(answers.map(\.status)) == [401, 503])
            #expect(answers.allSatisfy { $0.status == 401 || $0.header("Retry-After") == "1" })
        }
    }

    @Test("A removed user is refused at once, and an invalid users file changes nothing")
    func changedFiles() throws {
        try run { scenario, gateway in
            let connection = try RawConnection(gateway.port)
            func status(_ headers: String) throws -> Int { try connection.post("/ingest?name=a", "", headers: headers).status }
            #expect(try status(Self.basic("alice", Self.password)) == 200)
            try scenario.write(try Self.user(scenario, "bob", "b", Self.hash), to: "next")
            rename(scenario.path("next"), scenario.path("users"))
            try gateway.log.wait(for: "users and tokens read again")
            #expect(try status(Self.basic("alice", Self.password)) == 401)
            #expect(try status(Self.basic("bob", "b")) == 200)
            try scenario.write("bob:b\n", to: "next")
            rename(scenario.path("next"), scenario.path("users"))
            try gateway.log.wait(for: "level=error", "users_file: line 1: the hash of")
            #expect(try status(Self.basic("bob", "b")) == 200)
        }
    }

    @Test("A client certificate suffices where client_certificate is set, and without one the sender gets 401 or 403")
    func certificate() throws {
        for (auth, refusal) in [
            (Self.auth.replacingOccurrences(of: "\"tokens\"", with: "\"tokens\", \"client_certificate\": true"), 401),
            ("\"auth\": { \"client_certificate\": true },", 403),
        ] {
            try Scenario.run { scenario in
                let certificates = try Certificates(scenario)
                try scenario.write(try Self.user(scenario, "alice", Self.password), to: "users")
                try scenario.write(Self.token, to: "tokens")
                let tls = Certificates.block("\"client_ca_file\": \"ca.pem\", \"client_auth_type\": \"VerifyClientCertIfGiven\"")
                let gateway = try GatewayProcess(
                    scenario,
                    GatewayProcess.config(
                        listeners: GatewayProcess.listener(["console"], more: tls + auth), receivers: ["console": ReceiverEntry.console()]))
                let url = "https://localhost:\(gateway.port)/ingest?name=a"
                let post = ["--data-binary", "a 1"]
                #expect(try Curl(scenario, post + certificates.curl(showing: "client") + [url]).status == 200)
                #expect(try Curl(scenario, post + certificates.curl() + [url]).status == refusal)
                if refusal == 401 {
                    #expect(try Curl(scenario, post + certificates.curl() + ["-u", "alice:\(Self.password)", url]).status == 200)
                }
            }
        }
    }

    @Test("The admin listener can require authentication, except for /-/healthy, and can use TLS")
    func admin() throws {
        try Scenario.run { scenario in
            let certificates = try Certificates(scenario)
            try scenario.write(Self.token, to: "tokens")
            let port = try scenario.port()
            let admin = """
                "admin": { "listen_address": "127.0.0.1", "listen_port": \(port), \(Certificates.block()) "auth": { "bearer_tokens_file": "tokens" } },
                """
            let config = GatewayProcess.config(
                listeners: GatewayProcess.listener(["console"]), receivers: ["console": ReceiverEntry.console()], more: admin)
            let file = try scenario.write("{ \(config) }", to: "gateway.json")
            let process = try scenario.start([try Project.builtGateway(), "run", "--config", file])
            try process.errors.wait(for: "msg=ready")
            func status(_ path: String, _ more: [String] = []) throws -> Int {
                try Curl(scenario, certificates.curl() + more + ["https://localhost:\(port)\(path)"]).status
            }
            #expect(try status("/-/healthy") == 200)
            for path in ["/-/ready", "/metrics", "/api/v1/status", "/-/healthy/", "/nowhere"] { #expect(try status(path) == 401) }
            for path in ["/-/ready", "/metrics", "/api/v1/status"] {
                #expect(try status(path, ["-H", "Authorization: Bearer \(Self.token)"]) == 200)
            }
        }
    }

    @Test("check reports problems of the users and tokens files at the members that name them")
    func check() throws {
        try Scenario.run { scenario in
            let listener = GatewayProcess.listener(["console"], more: "\n" + Self.auth)
            let config = "{ \(GatewayProcess.config(listeners: listener, receivers: ["console": ReceiverEntry.console()])) }"
            let file = try scenario.write(config, to: "gateway.json")
            try scenario.write("alice:\(Self.password)\n", to: "users")
            // A file that others can read would get one more warning.
            chmod(scenario.path("users"), 0o600)
            let messages = [
                "users_file: line 1: the hash of \"alice\" is none that is taken: yescrypt $y$, bcrypt $2b$, sha512crypt $6$",
                "bearer_tokens_file: cannot be read: open tokens: No such file or directory",
            ]
            let check = try scenario.start([try Project.builtGateway(), "check", "--config", file])
            #expect(try check.waitForExit() == 1)
            #expect(check.output.lines.count == messages.count)
            for (line, message) in zip(check.output.lines, messages) {
                #expect(line.hasPrefix("\(file):") && line.hasSuffix(message), "\(line)")
            }
            let run = try scenario.start([try Project.builtGateway(), "run", "--config", file])
            #expect(try run.waitForExit() == 1)
            for message in messages {
                #expect(run.errors.lines.contains { $0.contains("cannot start") && $0.contains(message.prefix(30)) })
            }
        }
    }
}
