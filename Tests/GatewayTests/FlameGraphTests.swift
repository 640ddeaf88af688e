import Testing

@testable import ProfileReader

@Suite("Flame graphs, and stacks as text")
struct FlameGraphTests {
    private static func read(_ text: String, _ format: ReadProfile.Format = .folded, _ limits: ReadProfile.Limits = .standard) throws
        -> ReadProfile
    {
        try ReadProfile(reading: Array(text.utf8), format: format, limits: limits)
    }

    private static func graph(_ text: String, most: Int = 20_000) throws -> String {
        String(decoding: try read(text).flameGraph(sampleType: 0, most: most), as: UTF8.self)
    }

    private static func problem(_ text: String, _ format: ReadProfile.Format, _ limits: ReadProfile.Limits = .standard) -> String? {
        do throws(ReadProfile.Problem) {
            _ = try ReadProfile(reading: Array(text.utf8), format: format, limits: limits)
            return nil
        } catch { return error.description }
    }

    @Test("A place comes before what it calls, the largest first")
    func order() throws {
        #expect(
            try Self.graph("a;b 2\na;c 5\na 1\nd;b 3\n")
                == #"{"type":"samples","unit":"count","total":11,"truncated":false,"names":["all","a","c","b","d"],"#
                + #""nodes":[0,0,11,1,1,8,2,2,5,2,3,2,1,4,3,2,3,3]}"#)
    }

    @Test("Beyond the bound, the smallest places of each caller become one, and all sums stay exact")
    func bound() throws {
        let text = "a;b 6\na;c 2\na;d 1\ne 3\n"
        #expect(try Self.graph(text, most: 6).contains(#""truncated":false"#))
        let bounded = try Self.graph(text, most: 5)
        #expect(bounded.contains(#""truncated":true"#) && bounded.contains(#""names":["all","a","b","c","(other)","e"]"#))
        #expect(bounded.hasSuffix(#""nodes":[0,0,12,1,1,9,2,2,6,2,3,2,2,4,1,1,5,3]}"#))
        #expect(try Self.graph(text, most: 0).hasSuffix(#""names":["all","(other)"],"nodes":[0,0,12,1,1,12]}"#))
    }

    @Test("Folded text skips lines without a space, and lines of stacks count once each")
    func texts() throws {
        let folded = try Self.read("a;b (x.py:1) 2\r\n\r\nheading\na;b (x.py:1) -3\nb 4")
        #expect(String(decoding: try folded.folded(sampleType: 0), as: UTF8.self) == "a;b (x.py:1) -1\nb 4\n")
        let lines = try Self.read("a;b\na;b\n\na", .lines)
        #expect(String(decoding: try lines.folded(sampleType: 0), as: UTF8.self) == "a 1\na;b 2\n")
        #expect(lines.sampleTypes == [.init(name: "samples", unit: "count")])
        #expect(Self.problem("a 1\nb 1.5", .folded) == "the count on line 2 is 1.5, which is not a whole number of 64 bits")
        #expect(Self.problem("\n\nword\n", .folded) == "the text has no stack")
    }

    @Test("The text of stacks has a bound")
    func textBound() throws {
        let profile = try Self.read("a;b 2\nc 1\n")
        #expect(try profile.folded(sampleType: 0, most: 10).count == 10)
        #expect(throws: ReadProfile.Problem.self) { try profile.folded(sampleType: 0, most: 9) }
        #expect(try profile.folded(sampleType: 1).isEmpty)
    }

    @Test("Limits of text: samples and frames of a stack")
    func limits() {
        for (count, isRead) in [(2, false), (3, true), (4, true)] {
            var limits = ReadProfile.Limits.standard
            limits.samples = count
            #expect((Self.problem("a 1\nb 2\nc 3", .folded, limits) == nil) == isRead)
            limits = .standard
            limits.depth = count
            #expect((Self.problem("a;b;c", .lines, limits) == nil) == isRead)
        }
    }
}

@Suite("Reading speedscope's format")
struct SpeedscopeReaderTests {
    private static func file(
        _ profiles: String, frames: String = #"{"name":"main"},{"name":"w\u00f6rk \ud83d\ude00"},{"file":"x","name":"leaf"}"#
    ) -> String {
        #"{"$schema":"x","profiles":[\#(profiles)],"shared":{"frames":[\#(frames)]}}"#
    }

    private static func sampled(_ samples: String, _ weights: String, unit: String = "none") -> String {
        #"{"samples":\#(samples),"weights":\#(weights),"type":"sampled","unit":"\#(unit)"}"#
    }

    private static func read(_ text: String, _ limits: ReadProfile.Limits = .standard) throws -> ReadProfile {
        try ReadProfile(reading: Array(text.utf8), format: .speedscope, limits: limits)
    }

    private static func folded(_ text: String, _ type: Int = 0) throws -> String {
        String(decoding: try read(text).folded(sampleType: type), as: UTF8.self)
    }

    @Test("The profiles of a file are added up, each unit is a sample type, and times are nanoseconds")
    func sampled() throws {
        let text = Self.file(
            [
                Self.sampled("[[0,1],[0]]", "[0.25,1e-9]", unit: "seconds"), Self.sampled("[[0,1]]", "[2]", unit: "milliseconds"),
                Self.sampled("[[0,1,2]]", "[512]", unit: "bytes"),
            ].joined(separator: ","))
        #expect(try Self.read(text).sampleTypes == [.init(name: "time", unit: "nanoseconds"), .init(name: "memory", unit: "bytes")])
        #expect(try Self.folded(text) == "main 1\nmain;wörk 😀 252000000\n")
        #expect(try Self.folded(text, 1) == "main;wörk 😀;leaf 512\n")
    }

    @Test("Between two events, the stack that is open counts the time")
    func evented() throws {
        let events = [
            ("O", 0, "10"), ("O", 1, "12.5"), ("C", 1, "13"), ("O", 2, "13"), ("C", 2, "20"), ("C", 0, "21"), ("O", 0, "5"), ("C", 0, "6"),
        ]
        .map { #"{"type":"\#($0)","at":\#($2),"frame":\#($1)}"# }.joined(separator: ",")
        let text = Self.file(#"{"type":"evented","unit":"microseconds","events":[\#(events)]}"#)
        #expect(try Self.folded(text) == "main 4500\nmain;wörk 😀 500\nmain;leaf 7000\n")
    }

    @Test("A problem names the place and the value")
    func problems() {
        let event = #"{"type":"O","at":1,"frame":0}"#
        let cases: [(String, String)] = [
            ("a speedscope file must be an object, at byte 0", "[]"), ("the JSON ends inside a value", #"{"shared":{"#),
            ("a speedscope file has the members shared and profiles; this one does not", "{}"), ("the file has no profile", Self.file("")),
            ("a frame in profiles[0].samples is 3, and the file has 3 frames", Self.file(Self.sampled("[[3]]", "[1]"))),
            ("a frame in profiles[0].samples is -1, and the file has 3 frames", Self.file(Self.sampled("[[-1]]", "[1]"))),
            ("a frame in profiles[0].samples is 1e+300, and the file has 3 frames", Self.file(Self.sampled("[[1e300]]", "[1]"))),
            ("profiles[0] has another number of weights than of samples", Self.file(Self.sampled("[[0]]", "[1,2]"))),
            ("profiles[0].unit is weeks, which speedscope does not have", Self.file(Self.sampled("[]", "[]", unit: "weeks"))),
            ("profiles[0].type is x, and must be sampled or evented", Self.file(#"{"type":"x"}"#)),
            (
                "an event of profiles[0] closes frame 1, which is not the innermost one that is open",
                Self.file(#"{"type":"evented","events":[\#(event),{"type":"C","at":2,"frame":1}]}"#)
            ),
            (
                "the times in profiles[0].events go backwards",
                Self.file(#"{"type":"evented","events":[\#(event),{"type":"C","at":0,"frame":0}]}"#)
            ),
            ("shared.frames[0] has no name", Self.file(Self.sampled("[]", "[]"), frames: "{}")),
        ]
        for (message, text) in cases {
            do throws(ReadProfile.Problem) {
                _ = try ReadProfile(reading: Array(text.utf8), format: .speedscope)
                Issue.record("it is read: \(text)")
            } catch { #expect(error.description == message) }
        }
    }

    @Test("Each limit holds: what is at it is read, and one more is a problem")
    func limits() throws {
        let text = Self.file(Self.sampled("[[0,1,2],[0]]", "[1,2]"))
        for (limit, count) in [(\ReadProfile.Limits.samples, 2), (\.depth, 3), (\.entries, 3), (\.frames, 4), (\.nodes, 3), (\.names, 3)] {
            for extra in [-1, 0, 1] {
                var limits = ReadProfile.Limits.standard
                limits[keyPath: limit] = count + extra
                #expect((try? Self.read(text, limits)) == nil ? extra < 0 : extra >= 0)
            }
        }
        let nested = { (depth: Int) in String(repeating: "[", count: depth) + String(repeating: "]", count: depth) }
        for (depth, isRead) in [(255, true), (256, true), (257, false)] {
            let text = #"{"more":\#(nested(depth)),"# + Self.file(Self.sampled("[[0]]", "[1]")).dropFirst()
            #expect((try? Self.read(text)) != nil ? isRead : !isRead)
        }
    }
}
