import Testing

@testable import Profiles
@testable import TestSupport

@Suite("Label sets in the name parameter of /ingest")
struct LabelSetTests {
    @Test(
        "Pyroscope's test vectors are read as Pyroscope reads them",
        arguments: [
            ("foo", ["__name__=foo"]),
            ("foo{}", ["__name__=foo"]),
            ("foo{}junk", ["__name__=foo"]),
            (" foo { bar = 1 , baz = 2 } ", ["__name__=foo", "bar=1", "baz=2"]),
            ("foo{a=1", ["__name__=foo"]),
            ("foo{a}", ["__name__=foo"]),
            ("test.app{invalid-label-syntax}", ["__name__=test.app"]),
            ("foo{a=}", ["__name__=foo", "a="]),
            ("foo{a=b=c}", ["__name__=foo", "a=b=c"]),
            (#"foo{a="x"}"#, ["__name__=foo", #"a="x""#]),
            ("foo{a={x}", ["__name__=foo", "a={x"]),
            ("foo{a=1}b=2}", ["__name__=foo", "a=1", "b=2"]),
            ("foo{a=v,w}", ["__name__=foo", "a=v"]),
            ("foo{a=1,a=2}", ["__name__=foo", "a=2"]),
            ("foo{__name__=bar}", ["__name__=bar"]),
            ("foo{__name__=b@d!}", ["__name__=b@d!"]),
        ])
    func vector(text: String, expected: [String]) throws {
        #expect(try Self.read(text) == expected)
    }

    @Test(
        "Other valid names are read",
        arguments: [
            ("pyroscope-nodejs-pprof-{app=x,region=,cluster=}", ["__name__=pyroscope-nodejs-pprof-", "app=x", "cluster=", "region="]),
            ("a/b_C.d-9", ["__name__=a/b_C.d-9"]),
            ("foo{9a.B_=1}", ["9a.B_=1", "__name__=foo"]),
            ("foo{a= ü ñ\t}", ["__name__=foo", "a=ü ñ"]),
            ("foo{", ["__name__=foo"]),
            ("foo{a=1,}", ["__name__=foo", "a=1"]),
            ("\u{a0}foo\u{2003}", ["__name__=foo"]),
        ])
    func grammar(text: String, expected: [String]) throws {
        #expect(try Self.read(text) == expected)
    }

    @Test(
        "Names that Pyroscope refuses are refused for the same reason",
        arguments: [
            ("", LabelSet.ParseError.serviceNameRequired),
            ("  ", .serviceNameRequired),
            ("{a=b}", .serviceNameRequired),
            ("foo{a,b=1}", .invalidLabelName("a,b", character: ",")),
            ("foo{a=1,,b=2}", .invalidLabelName(",b", character: ",")),
            ("foo{{a=1}", .invalidLabelName("{a", character: "{")),
            ("foo{a-b=1}", .invalidLabelName("a-b", character: "-")),
            ("foo{ü=1}", .invalidLabelName("ü", character: "ü")),
            ("foo{=1}", .labelNameRequired),
            ("foo{ =1}", .labelNameRequired),
            ("foo bar", .invalidServiceName("foo bar")),
            ("föö", .invalidServiceName("föö")),
            ("foo}", .invalidServiceName("foo}")),
        ])
    func refused(text: String, error: LabelSet.ParseError) {
        #expect(throws: error) { try LabelSet(parsing: text) }
    }

    @Test("The application becomes service_name if there is none")
    func serviceNameFromApplication() throws {
        var labels = try LabelSet(parsing: "foo{a=1}")
        labels.addServiceName()
        #expect(Self.lines(labels) == ["__name__=foo", "a=1", "service_name=foo"])
    }

    @Test("The application becomes app_name if there is a service_name")
    func applicationAsAppName() throws {
        var labels = try LabelSet(parsing: "foo{service_name=bar,app_name=old}")
        labels.addServiceName()
        #expect(Self.lines(labels) == ["__name__=foo", "app_name=foo", "service_name=bar"])
    }

    @Test("Setting a label keeps the names sorted and unique, and nil removes it")
    func setting() {
        var labels = LabelSet()
        for name in ["m", "z", "a", "m"] { labels[name] = "\(name)\(labels.labels.count)" }
        #expect(Self.lines(labels) == ["a=a2", "m=m3", "z=z1"])
        labels["m"] = nil
        labels["absent"] = nil
        #expect(Self.lines(labels) == ["a=a2", "z=z1"])
        #expect(labels["a"] == "a2")
        #expect(labels["m"] == nil)
    }

    @Test("Random text gives an error or a sorted set, and no crash")
    func garbage() throws {
        var random = SeededRandom()
        for _ in 0..<3000 {
            let text = String(decoding: random.bytes(upTo: 40, of: "ab{}=, _.-"), as: UTF8.self)
            guard let labels = try? LabelSet(parsing: text) else { continue }
            let names = labels.labels.map(\.name)
            #expect(names == Set(names).sorted(), "\(text)")
        }
    }

    private static func read(_ text: String) throws -> [String] { lines(try LabelSet(parsing: text)) }

    private static func lines(_ labels: LabelSet) -> [String] { labels.labels.map { "\($0.name)=\($0.value)" } }
}
