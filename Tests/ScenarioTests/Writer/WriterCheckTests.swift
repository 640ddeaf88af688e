import Testing

@testable import TestSupport

@Suite("check of HTTPWriter configs", .serialized)
struct WriterCheckTests {
    /// Members of an endpoint with `@` at the problem, the problem's path below the endpoint, and a part of the message.
    private static let problems: [(String, String, String)] = [
        (#""url": @"localhost:4040""#, "url", ""), (#""url": @"http://user:hunter2@host""#, "url", ""),
        (#""basic_auth": { "username": "a", "password": "hunter2", "password_file": "p" }"#, "basic_auth", "password"),
        (#""basic_auth": { "username": "a", "password_file": @"none" }"#, "basic_auth.password_file", "No such file"),
        (#""basic_auth": { "username": "a", @"pass": "hunter2" }"#, "basic_auth.pass", "unknown"),
        (#""authorization": { "credentials_file": @"none" }"#, "authorization.credentials_file", "No such file"),
        (#""authorization": { "credentials": "hunter2", "credentials_file": "p" }"#, "authorization", "credentials"),
        (#""authorization": { "type": @"Basic", "credentials": "hunter2" }"#, "authorization.type", "basic_auth"),
        (#""bearer_token_file": @"none""#, "bearer_token_file", "No such file"),
        (#""bearer_token": "hunter2", "bearer_token_file": "p""#, "bearer_token", ""),
        (#""bearer_token": "hunter2", "basic_auth": { "username": "a", "password": "hunter2" }"#, "", "one of them"),
        (#""bearer_token": "hunter2", "headers": { "authorization": "hunter2" }"#, "", "one of them"),
        (#""http_headers": { "Authorization": ["hunter2"] }, "authorization": { "credentials": "hunter2" }"#, "", "one of them"),
        (
            #""oauth2": { "client_id": "a", "client_secret": "hunter2", "token_url": "http://a" }, "bearer_token": "hunter2""#, "",
            "one of them"
        ),
        (#""oauth2": { "client_secret": "hunter2", "token_url": "http://a" }"#, "oauth2.client_id", "required"),
        (#""oauth2": { "client_id": "a", "client_secret": "hunter2", "token_url": @"ftp://a" }"#, "oauth2.token_url", "http"),
        (
            #""oauth2": { "client_id": "a", "client_secret_file": @"none", "token_url": "http://a" }"#, "oauth2.client_secret_file",
            "No such file"
        ),
        (#""oauth2": { "client_id": "a", "client_secret": "hunter2", "token_url": "http://a", "scopes": @"x" }"#, "oauth2.scopes", ""),
        (
            #""oauth2": { "client_id": "a", "client_secret": "hunter2", "token_url": "http://a", "tls_config": { "ca_file": @"none" } }"#,
            "oauth2.tls_config.ca_file", "No such file"
        ),
        (#""basic_auth": { "username": @"a:b", "password": "hunter2" }"#, "basic_auth.username", "colon"),
        (#""basic_auth": { "password": "hunter2" }"#, "basic_auth.username", "required"),
        (#""tls_config": { "ca_file": @"none" }"#, "tls_config.ca_file", "No such file"),
        (#""tls_config": { "ca_file": @"server.key" }"#, "tls_config.ca_file", "certificate"),
        (#""tls_config": { "ca_pem": @"x" }"#, "tls_config.ca_pem", "certificate"),
        (#""tls_config": { "ca_file": "ca.pem", "ca_pem": "x" }"#, "tls_config", ""),
        (#""tls_config": { "cert_file": "client.pem" }"#, "tls_config", "key"),
        (#""tls_config": { "key_file": "client.key" }"#, "tls_config", "cert"),
        (#""tls_config": { "cert_file": "client.pem", "key_file": @"none" }"#, "tls_config.key_file", "No such file"),
        (#""tls_config": { "cert_file": "client.pem", "key_file": @"server.key" }"#, "tls_config.key_file", "not the key"),
        (#""tls_config": { "cert_file": "client.pem", "key_file": @"locked.key" }"#, "tls_config.key_file", "passphrase"),
        (#""tls_config": { "min_version": @"SSL3" }"#, "tls_config.min_version", "TLS12"),
        (#""tls_config": { "insecure_skip_verify": @"yes" }"#, "tls_config.insecure_skip_verify", ""),
        (#""proxy_url": @"no url""#, "proxy_url", ""), (#""proxy_url": @"gopher://a""#, "proxy_url", ""),
        (#""proxy_url": "http://a", "proxy_from_environment": true"#, "proxy", ""),
        (#""no_proxy": @"a""#, "no_proxy", "proxy_url"), (#""proxy_connect_header": @{ "A": "b" }"#, "proxy_connect_header", "proxy"),
        (#""http_headers": { "A": [7] }"#, "http_headers", "string"),
        (#""compression": @"zstd""#, "compression", "gzip"), (#""follow_redirects": @1"#, "follow_redirects", ""),
        (#""tenant": { "force": "a", "drop": true }"#, "tenant", ""),
        (#""retry_on_http_429": @"no""#, "retry_on_http_429", ""), (#"@"retry_on_442": true"#, "retry_on_442", "retry_on_422"),
    ]

    @Test("Each problem is reported alone, at its position, and without the secret")
    func problems() throws { try check(Self.problems) }

    /// Checks that each config has exactly this problem.
    private func check(_ problems: [(String, String, String)]) throws {
        try Scenario.run { scenario in
            let certificates = try Certificates(scenario)
            try certificates.openssl(["ec", "-in", "server.key", "-aes128", "-passout", "pass:x", "-out", "locked.key"])
            try certificates.make("old", days: -1)
            try scenario.write("hunter2", to: "p")
            try scenario.write("\u{feff}hunter2", to: "bom")
            for (marked, path, words) in problems {
                // The first `@` is the mark, and one of a URL's user comes later.
                let mark = marked.firstIndex(of: "@")
                let members = mark.map { String(marked[..<$0] + marked[marked.index(after: $0)...]) } ?? marked
                let url = members.contains("\"url\"") ? "" : "\"url\": \"http://host\","
                let entry = "\"plugin\": \"HTTPWriter\", \"config\": { \"endpoint\": [{ \(url)\n\(members)\n}] }"
                let config = GatewayProcess.config(listeners: GatewayProcess.listener(["up"]), receivers: ["up": entry])
                let file = try scenario.write("{ \(config) }", to: "gateway.json")
                let check = try scenario.start([try Project.builtGateway(), "check", "--config", file])
                #expect(try check.waitForExit() == 1, "\(members)")
                #expect(check.output.lines.count == 1, "\(members): \(check.output.lines)")
                let said = check.output.lines.first ?? ""
                #expect(said.contains("receivers.up.config.endpoint[0]\(path.isEmpty ? "" : "." + path)"), "\(members): \(said)")
                #expect(words.isEmpty || said.lowercased().contains(words.lowercased()), "\(members): \(said)")
                #expect(!said.contains("hunter2") && !said.contains("86420135"), "\(members)")
                if let column = mark.map({ marked.distance(from: marked.startIndex, to: $0) + 1 }) {
                    let line = config.prefix(upTo: config.range(of: members)?.lowerBound ?? config.startIndex).count { $0 == "\n" } + 1
                    #expect(said.hasPrefix("\(file):\(line):\(column): "), "\(members): \(said)")
                } else {
                    #expect(said.hasPrefix("\(file):"), "\(members): \(said)")
                }
            }
        }
    }

    private static let lessObvious: [(String, String, String)] = [
        (#""bearer_token": @"hunter2\nx""#, "bearer_token", "control character"),
        (#""oauth2": { "client_id": "a", "client_secret": "hunter2" }"#, "oauth2.token_url", "required"),
        (#""proxy_url": "http://a", "proxy_connect_header": { "a b": "c" }"#, "proxy_connect_header", "header name"),
        (#""http_headers": { "A": ["b\nhunter2"] }"#, "http_headers", "control character"),
        (#""http_headers": { "a b": "c" }"#, "http_headers", "header name"),
        (#""tenant": { "force": @"a b" }"#, "tenant.force", ""),
        (#""authorization": { "type": @"Be\nrer", "credentials": "hunter2" }"#, "authorization.type", ""),
        (#""basic_auth": { "username": @"a\nb", "password": "hunter2" }"#, "basic_auth.username", ""),
        (#""proxy_url": @"http://""#, "proxy_url", ""), (#""proxy_url": @"http://user:hunter2@a b""#, "proxy_url", ""),
        (#""tls_config": { "cert_file": @"old.pem", "key_file": "old.key" }"#, "tls_config.cert_file", "expired"),
        (#""url": @"http://a:0/b""#, "url", "port 0"), (#""url": @"http://[::1]:00""#, "url", "port 0"),
        (#""url": @"http://a/%""#, "url", "hexadecimal"), (#""url": @"http://a/%2""#, "url", "hexadecimal"),
        (#""url": @"http://a/%zz""#, "url", "hexadecimal"), (#""url": @"http://a/%+1""#, "url", "hexadecimal"),
        (#""url": @"http://a/%00""#, "url", "control"), (#""url": @"http://a/x%1f""#, "url", "control"),
        (#""url": @"http://a%7f/""#, "url", "control"),
        (#""proxy_url": @"http://a:0""#, "proxy_url", "port 0"), (#""proxy_url": @"socks5://u:hunter2%@a:1""#, "proxy_url", "hexadecimal"),
        (#""proxy_url": @"http://u:hunter2%0a@a:1""#, "proxy_url", "control"),
        (
            #""oauth2": { "client_id": "a", "client_secret": "hunter2", "token_url": @"http://a:0/%41" }"#, "oauth2.token_url", "port 0"
        ),
        (#""bearer_token": @"""#, "bearer_token", "empty"), (#""bearer_token": @" hunter2""#, "bearer_token", "white space"),
        (#""basic_auth": { "username": "a", "password": @"" }"#, "basic_auth.password", "empty"),
        (#""authorization": { "credentials": @"hunter2 " }"#, "authorization.credentials", "white space"),
        (#""bearer_token_file": @"bom""#, "bearer_token_file", "bom begins with a byte order mark"),
        (#""tls_config": { "cert_file": "client.pem", "key_file": @"bom" }"#, "tls_config.key_file", "byte order mark"),
        (#""tls_config": { "ca_file": @"bom" }"#, "tls_config.ca_file", "byte order mark"),
    ]

    @Test("Problems that would otherwise appear with the first request are reported")
    func lessObvious() throws { try check(Self.lessObvious) }

    private static let secretMembers: [(String, String, String)] = [
        (#""basic_auth": { "username": "a", "password": @86420135 }"#, "basic_auth.password", "a number"),
        (#""bearer_token": @86420135"#, "bearer_token", "a number"),
        (#""authorization": { "type": @"Token 86420135", "credentials": "x" }"#, "authorization.type", "scheme"),
        (#""authorization": { "credentials": @86420135 }"#, "authorization.credentials", "a number"),
        (#""oauth2": { "client_id": "a", "client_secret": @86420135, "token_url": "https://a" }"#, "oauth2.client_secret", "a number"),
        (#""proxy_url": @86420135"#, "proxy_url", "a number"),
        (#""headers": { "X-Key": 86420135 }"#, "headers", "must be a string"),
        (#""headers": { "X-Key": "86420135\u0000" }"#, "headers", "control character"),
    ]

    @Test("A secret that is not a string, or is invalid, is not shown")
    func secretMembers() throws { try check(Self.secretMembers) }

    private static let clearRows: [(String, String?)] = [
        (#""url": "http://h", "bearer_token": "x""#, "url"), (#""url": "HTTP://h", "basic_auth": { "username": "a" }"#, "url"),
        (#""url": "http://h", "headers": { "X-Api-Key": "k" }"#, "url"),
        (#""url": "https://h", "bearer_token": "x""#, nil), (#""url": "http://h", "headers": { "X-Env": "k" }"#, nil),
        (#""url": "https://h", "oauth2": { "client_id": "a", "client_secret": "b", "token_url": "http://t" }"#, "oauth2.token_url"),
        (#""url": "https://h", "oauth2": { "client_id": "a", "client_secret": "b", "token_url": "https://t" }"#, nil),
    ]

    @Test("Credentials sent to http:// cause a warning, but no error", arguments: clearRows)
    func inTheClear(members: String, path: String?) throws {
        try Scenario.run { scenario in
            let entry = "\"plugin\": \"HTTPWriter\", \"config\": { \"endpoint\": [{ \(members) }] }"
            let config = GatewayProcess.config(listeners: GatewayProcess.listener(["up"]), receivers: ["up": entry])
            let file = try scenario.write("{ \(config) }", to: "gateway.json")
            let check = try scenario.start([try Project.builtGateway(), "check", "--config", file])
            #expect(try check.waitForExit() == 0, "\(check.output.lines)")
            let warnings = check.output.lines.filter { $0.contains(": warning: ") }
            #expect(warnings.count == (path == nil ? 0 : 1), "\(warnings)")
            if let path {
                #expect(warnings.first?.contains("receivers.up.config.endpoint[0].\(path): is http://") == true, "\(warnings)")
                #expect(warnings.first?.hasSuffix("in the clear") == true)
            }
        }
    }

    private static let receiverProblems = [
        (#""unsafe_labels": @"drop""#, "unsafe_labels"), (#""app_name": @"pyroscope""#, "app_name"),
        (#""batch": { "max_profiles": @0 }"#, "batch.max_profiles"),
        (#""batch": { "max_bytes": @"lots" }"#, "batch.max_bytes"), (#""batch": { @"max_profile": 1 }"#, "batch.max_profile"),
    ]

    @Test("Problems of the members next to the endpoints are reported", arguments: receiverProblems)
    func receivers(marked: String, path: String) throws {
        try Scenario.run { scenario in
            let members = marked.replacing("@", with: "")
            let entry = "\"plugin\": \"HTTPWriter\", \"config\": { \"endpoint\": [{ \"url\": \"http://host\" }],\n\(members)\n}"
            let config = GatewayProcess.config(listeners: GatewayProcess.listener(["up"]), receivers: ["up": entry])
            let file = try scenario.write("{ \(config) }", to: "gateway.json")
            let check = try scenario.start([try Project.builtGateway(), "check", "--config", file])
            #expect(try check.waitForExit() == 1)
            let column = marked.prefix { $0 != "@" }.count + 1
            #expect(check.output.lines.count == 1)
            #expect(check.output.lines.first?.contains(":\(column): receivers.up.config.\(path): ") == true, "\(check.output.lines)")
        }
    }

    @Test("A config with all members of an endpoint is accepted")
    func everything() throws {
        try Scenario.run { scenario in
            _ = try Certificates(scenario)
            try scenario.write("s3cret", to: "secret")
            let entry = """
                "plugin": "HTTPWriter",
                "config": {
                  "endpoint": [{
                    "url": "https://host", "name": "a", "remote_timeout": "10s", "headers": { "A": "b" }, "http_headers": { "C": ["d", "e"] },
                    "oauth2": { "client_id": "a", "client_secret_file": "secret", "token_url": "https://b/token", "scopes": ["c"],
                                "endpoint_params": { "d": "e" }, "tls_config": { "ca_file": "ca.pem" }, "proxy_url": "http://proxy" },
                    "tls_config": { "ca_file": "ca.pem", "cert_file": "client.pem", "key_file": "client.key", "server_name": "f",
                                    "insecure_skip_verify": false, "min_version": "TLS13" },
                    "proxy_url": "http://proxy", "proxy_connect_header": { "G": ["h"] }, "no_proxy": "i,j", "proxy_from_environment": false,
                    "follow_redirects": true, "enable_http2": true, "retry_on_http_429": true, "retry_on_422": false,
                    "compression": "gzip", "tenant": { "force": "k" },
                  }],
                  "external_labels": { "l": "m" }, "unsafe_labels": "push", "app_name": "alloy",
                  "batch": { "max_profiles": 10, "max_bytes": "1MiB" },
                }
                """
            let config = GatewayProcess.config(listeners: GatewayProcess.listener(["up"]), receivers: ["up": entry])
            let check = try scenario.start([
                try Project.builtGateway(), "check", "--config", try scenario.write("{ \(config) }", to: "gateway.json"),
            ])
            #expect(try check.waitForExit() == 0, "\(check.output.lines)")
        }
    }
}
