package import ConfigJSON
import HTTPServer
import Telemetry

/// How a listener treats `X-Scope-OrgID`.
package enum TenantPolicy: Equatable, Sendable {
    /// The sender's tenant is passed on; a request may have none.
    case pass
    /// Every profile belongs to this tenant, whatever its sender says.
    case force(String)
    /// A sender must name a tenant.
    case require
    /// A sender must name one of these tenants.
    case allow([String])

    /// Whether senders may choose any tenant; then their peer addresses tell them apart.
    var isChosenBySender: Bool {
        switch self {
        case .pass, .require: true
        case .force, .allow: false
        }
    }

    /// The tenant of a request; empty when it has none.
    func tenant(_ head: RequestHead) throws(InvalidRequest) -> String {
        if case .force(let tenant) = self { return tenant }
        var values = head.values(of: "x-scope-orgid")
        let value = values.next()
        // Of two headers, two servers could use different ones, and disagree about the profile's tenant.
        guard values.next() == nil else { throw InvalidRequest("X-Scope-OrgID: is given more than once") }
        let tenant = try value.map { value throws(InvalidRequest) in try Self.check(value) } ?? ""
        switch self {
        case .pass, .force: return tenant
        case .require where tenant.isEmpty, .allow where tenant.isEmpty:
            // Pyroscope's status and message; RFC 9110 §15.5.2 requires a challenge with them.
            throw InvalidRequest("no org id: X-Scope-OrgID is required", status: 401, headers: [("WWW-Authenticate", "X-Scope-OrgID")])
        case .allow(let tenants) where !tenants.contains(tenant):
            throw InvalidRequest("X-Scope-OrgID: \(quotedForPeople(tenant)) may not send here", status: 403)
        case .require, .allow: return tenant
        }
    }

    /// Validates a tenant by Pyroscope's rules.
    private static func check(_ value: ArraySlice<UInt8>) throws(InvalidRequest) -> String {
        if value.count > maximumLength { throw InvalidRequest("X-Scope-OrgID: is longer than \(maximumLength) bytes") }
        let text = String(decoding: value, as: UTF8.self)
        guard value.allSatisfy(isTenantByte) else {
            throw InvalidRequest("X-Scope-OrgID: \(quotedForPeople(text)) has a character other than A-Z a-z 0-9 ! _ . * ' ( ) -")
        }
        return text
    }

    private static let maximumLength = 150

    private static func isTenantByte(_ byte: UInt8) -> Bool {
        (48...57 ~= byte) || (65...90 ~= byte & 0xDF) || "!_.*'()-".utf8.contains(byte)
    }
}

extension TenantPolicy {
    package init(_ object: ConfigObject) {
        let force = object.string("force")
        let isRequired = object.bool("require", default: false)
        let allowed = object.strings("allow")
        object.refuseUnknown()
        if let force, !Self.isTenant(force) { object.refuse("force", Self.noTenant(force)) }
        for tenant in allowed ?? [] where !Self.isTenant(tenant) { object.refuse("allow", Self.noTenant(tenant)) }
        if allowed == [] { object.refuse("allow", "must name at least one tenant") }
        if force != nil, isRequired || allowed != nil { object.refuse("force", "leaves nothing to require or allow") }
        if let force { self = .force(force) } else if let allowed { self = .allow(allowed) } else { self = isRequired ? .require : .pass }
    }

    private static func isTenant(_ text: String) -> Bool {
        !text.isEmpty && text.utf8.count <= maximumLength && text.utf8.allSatisfy(isTenantByte)
    }

    private static func noTenant(_ text: String) -> String {
        "\(JSONValue.quoted(text)) is no tenant: 1 to \(maximumLength) of A-Z a-z 0-9 ! _ . * ' ( ) -"
    }
}
