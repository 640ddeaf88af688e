/// The fuzz targets, whose seeds and past findings are in `Tests/Corpora/<raw value>`.
///
/// This folder compiles in two places: here, where `make test` replays those files, and with `Tests/Fuzz/Entry.swift` in the
/// program that `make fuzz` runs.
enum FuzzTarget: String, CaseIterable, Sendable {
    case head, body, answer, request, labels, query
    case contentType = "content-type"
    case protobuf, json, gzip, config
    case grpcWeb = "grpc-web"
    case authorization, users, references
    case segment, record, sequence, requests
    case spoolNames = "spool-names"
    case deadLetters = "dead-letters"
    case archiveIndex = "archive-index"
    case sidecar, elf, proxy, multipart
    case pprof, stacks, speedscope

    /// Runs the target with `bytes`, and ends the process when the result breaks a promise.
    func run(_ bytes: [UInt8]) {
        switch self {
        case .head: fuzzHead(bytes)
        case .body: fuzzBody(bytes)
        case .answer: fuzzAnswer(bytes)
        case .request: fuzzRequest(bytes)
        case .labels: fuzzLabels(bytes)
        case .query: fuzzQuery(bytes)
        case .contentType: fuzzContentType(bytes)
        case .protobuf: fuzzProtobuf(bytes)
        case .json: fuzzJSON(bytes)
        case .gzip: fuzzGzip(bytes)
        case .config: fuzzConfig(bytes)
        case .grpcWeb: fuzzGRPCWeb(bytes)
        case .authorization: fuzzAuthorization(bytes)
        case .users: fuzzUsers(bytes)
        case .references: fuzzReferences(bytes)
        case .segment: fuzzSegment(bytes)
        case .record: fuzzRecord(bytes)
        case .sequence: fuzzSequence(bytes)
        case .requests: fuzzRequests(bytes)
        case .spoolNames: fuzzSpoolNames(bytes)
        case .deadLetters: fuzzDeadLetters(bytes)
        case .archiveIndex: fuzzArchiveIndex(bytes)
        case .sidecar: fuzzSidecar(bytes)
        case .elf: fuzzELF(bytes)
        case .proxy: fuzzProxy(bytes)
        case .multipart: fuzzMultipart(bytes)
        case .pprof: fuzzPprof(bytes)
        case .stacks: fuzzStacks(bytes)
        case .speedscope: fuzzSpeedscope(bytes)
        }
    }
}

/// A `precondition` that shows its message in an optimized build too.
func promise(_ isKept: Bool, _ what: @autoclosure () -> String) {
    if !isKept { fatalError("broken promise: \(what())") }
}

/// Random choices that depend on the input alone, so that a finding can be repeated and the input needs no bytes for them.
struct InputChoices: RandomNumberGenerator {
    private var state: UInt64 = 0xCBF2_9CE4_8422_2325

    /// The first state is the FNV-1a hash of the input.
    init(_ bytes: [UInt8]) {
        for byte in bytes { state = (state ^ UInt64(byte)) &* 0x100_0000_01B3 }
    }

    /// A step of a linear congruential generator with Knuth's multiplier, in which the high bits are the random ones.
    mutating func next() -> UInt64 {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return state ^ (state >> 32)
    }

    /// `bytes` in up to 15 pieces, some of which are empty or a byte long.
    mutating func pieces(_ bytes: [UInt8]) -> [ArraySlice<UInt8>] {
        var cuts = [0, bytes.count]
        for _ in 0..<Int.random(in: 0...7, using: &self) {
            cuts.append(Int.random(in: 0...bytes.count, using: &self))
            if Bool.random(using: &self) { cuts.append(min(bytes.count, (cuts.last ?? 0) + 1)) }
        }
        cuts.sort()
        return zip(cuts, cuts.dropFirst()).map { bytes[$0..<$1] }
    }
}
