import Foundation

/// One series of a Push, which senders write in JSON and upstreams get in protobuf.
struct PushSeries: Codable, Hashable {
    struct Label: Codable, Hashable {
        var name = ""
        var value = ""
    }

    struct Sample: Codable, Hashable {
        var rawProfile = Data()
        var ID = ""
    }

    var labels: [Label] = []
    var samples: [Sample] = []

    init() {}

    /// - Parameter samples: the text of each sample by its ID.
    init(_ labels: KeyValuePairs<String, String> = ["__name__": "cpu", "service_name": "app"], samples: KeyValuePairs<String, String>) {
        self.labels = labels.map { Label(name: $0.key, value: $0.value) }
        self.samples = samples.map { Sample(rawProfile: Data($0.value.utf8), ID: $0.key) }
    }

    /// A series that is identified by a number.
    static func numbered(_ number: Int) -> PushSeries { PushSeries(samples: ["id-\(number)": "profile \(number)"]) }

    var texts: [String] { samples.map { String(decoding: $0.rawProfile, as: UTF8.self) } }

    /// A PushRequest in JSON.
    static func json(_ series: [PushSeries]) throws -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = .withoutEscapingSlashes
        return String(decoding: try encoder.encode(["series": series]), as: UTF8.self)
    }

    // MARK: Protobuf

    /// Decodes a PushRequest without the gateway's own reader.
    static func decode(_ message: Data) throws -> [PushSeries] {
        try fields(message).map { _, content in
            var series = PushSeries()
            for (number, content) in try fields(content) {
                let parts = Dictionary(try fields(content), uniquingKeysWith: { $1 })
                if number == 1 { series.labels.append(Label(name: text(parts[1]), value: text(parts[2]))) }
                if number == 2 { series.samples.append(Sample(rawProfile: parts[1] ?? Data(), ID: text(parts[2]))) }
            }
            return series
        }
    }

    private static func text(_ bytes: Data?) -> String { String(decoding: bytes ?? Data(), as: UTF8.self) }

    /// The fields of a message that has only length-delimited ones, as all messages of push.v1 do.
    private static func fields(_ message: Data) throws -> [(Int, Data)] {
        var rest = message[...]
        var fields: [(Int, Data)] = []
        while !rest.isEmpty {
            let tag = try varint(&rest)
            let length = try varint(&rest)
            guard tag & 7 == 2, length <= rest.count else { throw NeverCame(what: "a field of push.v1", seen: ["\(Array(rest))"]) }
            fields.append((tag >> 3, Data(rest.prefix(length))))
            rest = rest.dropFirst(length)
        }
        return fields
    }

    private static func varint(_ rest: inout Data) throws -> Int {
        var value = 0
        for shift in stride(from: 0, to: 63, by: 7) {
            guard let byte = rest.popFirst() else { break }
            value |= Int(byte & 0x7F) << shift
            if byte < 0x80 { return value }
        }
        throw NeverCame(what: "the end of a varint", seen: [])
    }
}
