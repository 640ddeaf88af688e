import ConfigJSON
import Testing

@Suite("Reading one object of a config")
struct ConfigObjectTests {
    private let problems = Problems()

    private func object(_ text: String) throws -> ConfigObject {
        ConfigObject(try #require(JSONParser.parse(Array(text.utf8), dialect: .strict, problems: problems)), path: "o", problems: problems)
    }

    private var lines: [String] { problems.list.map(\.description) }

    @Test("An absent member has its default, and is no problem")
    func absent() throws {
        let object = try object("{}")
        #expect(object.value("x") == nil && object.string("x") == nil && object.strings("x") == nil)
        #expect(object.object("x") == nil && object.objects("x") == nil)
        #expect(object.bool("x", default: true))
        #expect(object.integer("x", in: 1...2, default: 7) == 7)
        #expect(object.duration("x", default: .seconds(9)) == .seconds(9))
        #expect(object.size("x", default: 5) == 5)
        #expect(object.stringMembers("x").isEmpty && object.members(of: "x").isEmpty)
        #expect(lines.isEmpty)
    }

    @Test("A member of the wrong kind has its default, and is one problem")
    func wrong() throws {
        let object = try object(#"{"x": {}}"#)
        #expect(object.string("x") == nil)
        #expect(object.bool("x", default: true))
        #expect(object.integer("x", in: 1...2, default: 7) == 7)
        #expect(object.objects("x") == nil)
        #expect(
            lines == [
                "o.x: must be a string, is an object", "o.x: must be true or false, is an object",
                "o.x: must be a whole number, 1 to 2, is an object", "o.x: must be an array of objects, is an object",
            ])
    }

    @Test(
        "No problem shows the value of a secret member",
        arguments: [
            "password", "bearer_token", "client_secret", "api_key", "X-Api-Key", "credentials", "passphrase", "Authorization", "key_pem",
        ])
    func secret(name: String) throws {
        let object = try object(
            #"{"\#(name)": 1357924680, "authorization": {"type": 1357924680, "x": {"y": [1357924680]}}, "size": 77, "by-pass": {"size": 78}}"#
        )
        #expect(object.string(name) == nil && object.object("authorization")?.string("type") == nil)
        #expect(object.bool(name, default: true) && object.size(name, default: 5, atMost: 6) == 5)
        _ = object.object("authorization")?.string("x")
        #expect(lines.count == 5 && lines.allSatisfy { $0.hasSuffix("is a number") || $0.hasSuffix("is an object") }, "\(lines)")
        #expect(object.string("size") == nil && lines.last == "o.size: must be a string, is 77")
        #expect(object.object("by-pass")?.string("size") == nil && lines.last == "o.by-pass.size: must be a string, is 78")
    }

    @Test("Zero is a duration only where it is allowed")
    func zero() throws {
        let object = try object(#"{"x": "0s", "y": "-1s"}"#)
        #expect(object.duration("x", default: .seconds(9), zeroAllowed: true) == .zero)
        #expect(object.duration("x", default: .seconds(9)) == .seconds(9))
        #expect(object.duration("y", default: .seconds(9), zeroAllowed: true) == .seconds(9))
        #expect(lines.count == 2)
        #expect(lines.last == #"o.y: must be a duration such as "30s", is "-1s""#)
    }

    @Test("Members with free names keep the order of the text")
    func freeNames() throws {
        let object = try object(#"{"x": {"b": "1", "a": 2, "c.d": null, "": "3"}}"#)
        #expect(object.stringMembers("x").map { "\($0.name)=\($0.value)" } == ["b=1", "=3"])
        #expect(lines == ["o.x.a: must be a string, is a number", #"o.x["c.d"]: must be a string, is null"#])
    }

    @Test("A problem in an object of an array names the index")
    func array() throws {
        let objects = try #require(try object(#"{"x": [{"a": "1"}, 5, {"a": 2}]}"#).objects("x"))
        #expect(objects.map { $0.string("a") } == ["1", nil, nil])
        #expect(lines == ["o.x[1]: must be an object, is a number", "o.x[2].a: must be a string, is 2"])
    }

    @Test("Only members that were not read are unknown")
    func unknown() throws {
        let object = try object(#"{"asked": 1, "askde": 2, "other": 3}"#)
        _ = object.value("asked")
        object.refuseUnknown()
        #expect(lines == ["o.askde: unknown; did you mean asked?", "o.other: unknown"])
        #expect(problems.list.first?.position == TextPosition(line: 1, column: 14))
    }

    @Test("A problem with an absent member has the position of the object")
    func refuseAbsent() throws {
        try object("\n {}").refuse("x", "is required")
        #expect(problems.list == [Problem(position: TextPosition(line: 2, column: 2), path: "o.x", message: "is required")])
    }
}
