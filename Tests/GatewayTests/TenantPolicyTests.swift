import Testing

@testable import HTTPServer
@testable import ProfileAPI

@Suite("Tenants that a listener accepts")
struct TenantPolicyTests {
    /// The tenant, or the status of the refusal.
    private static func outcome(_ policy: TenantPolicy, _ fields: String) throws -> String {
        let input = Array("POST /ingest HTTP/1.1\r\nHost: a\r\n\(fields)\r\n".utf8)
        guard case .head(let head, _) = try RequestParser.parse(input[...]) else { return "incomplete" }
        do throws(InvalidRequest) {
            return "\"\(try policy.tenant(head))\""
        } catch { return "\(error.status)\(error.headers.map { " \($0.name)" }.joined())" }
    }

    private static let a = "X-Scope-OrgID: a\r\n"
    private static let b = "x-scope-orgid: b\r\n"
    private static let bad = "X-Scope-OrgID: a b\r\n"

    static let cases: [(TenantPolicy, String, String)] = [
        (.pass, "", "\"\""), (.pass, a, "\"a\""), (.pass, bad, "400"), (.pass, a + b, "400"), (.pass, "X-Scope-OrgID:\r\n", "\"\""),
        (.force("f"), "", "\"f\""), (.force("f"), a, "\"f\""), (.force("f"), bad, "\"f\""), (.force("f"), a + b, "\"f\""),
        (.require, "", "401 WWW-Authenticate"), (.require, "X-Scope-OrgID:\r\n", "401 WWW-Authenticate"), (.require, a, "\"a\""),
        (.require, bad, "400"),
        (.allow(["a", "c"]), "", "401 WWW-Authenticate"), (.allow(["a", "c"]), a, "\"a\""), (.allow(["a", "c"]), b, "403"),
        (.allow(["a"]), "X-Scope-OrgID: A\r\n", "403"), (.allow(["a", "b"]), a + b, "400"),
    ]

    @Test("Each policy accepts, replaces or refuses a tenant", arguments: cases)
    func policy(policy: TenantPolicy, fields: String, outcome: String) throws {
        #expect(try Self.outcome(policy, fields) == outcome)
    }
}
