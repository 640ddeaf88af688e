import ConfigJSON

@testable import ProfileReader

/// A pprof is refused, or what is shown of it adds up.
func fuzzPprof(_ bytes: [UInt8]) { check(bytes, .pprof) }

/// So is a text of stacks, with counts and without.
func fuzzStacks(_ bytes: [UInt8]) {
    check(bytes, .folded)
    check(bytes, .lines)
}

/// So is a file of speedscope.
func fuzzSpeedscope(_ bytes: [UInt8]) { check(bytes, .speedscope) }

private let limits: ReadProfile.Limits = {
    var limits = ReadProfile.Limits()
    // An input of some bytes may decompress to much more.
    (limits.bytes, limits.samples, limits.entries, limits.sampleTypes) = (1 << 20, 1000, 1000, 8)
    (limits.depth, limits.frames, limits.nodes, limits.names, limits.nameBytes) = (100, 10_000, 200, 100, 64)
    return limits
}()

private func check(_ bytes: [UInt8], _ format: ReadProfile.Format) {
    let profile: ReadProfile
    do throws(ReadProfile.Problem) { profile = try ReadProfile(reading: bytes, format: format, limits: limits) } catch {
        promise(!error.description.isEmpty && !error.description.contains("\n"), "a problem of several lines: \(error)")
        return
    }
    promise(profile.sampleTypes.indices.contains(profile.defaultSampleType), "a default that is no sample type")
    promise(profile.tree.count <= limits.nodes + 1 && profile.tree.names.count <= limits.names, "more than its limits")
    for type in profile.sampleTypes.indices {
        checkFunctions(profile, type)
        checkGraph(profile, type, most: 20_000)
        checkGraph(profile, type, most: 3)
        checkFolded(profile, type)
    }
}

/// Checks that the functions' own values are those of all stacks, and that none counts more than all.
private func checkFunctions(_ profile: ReadProfile, _ type: Int) {
    let functions = profile.topFunctions(sampleType: type)
    promise(Set(functions.map(\.name)).count == functions.count, "a function twice")
    let whole = profile.total(sampleType: type)
    // Sums that have stopped at the largest number say nothing.
    guard whole < .max else { return }
    for function in functions {
        promise(function.total.magnitude <= UInt64(whole) && function.own.magnitude <= UInt64(whole), "\(function) of \(whole)")
    }
    let own = functions.reduce(Int64(0)) { $0 + $1.own }
    let stacks = (1..<max(1, profile.tree.count)).reduce(Int64(0)) { $0 + profile.tree.value($1, type) }
    promise(own == stacks, "the functions count \(own), and the stacks \(stacks)")
}

/// Checks that a graph is JSON, within its bound, and that no place counts less than what is below it.
private func checkGraph(_ profile: ReadProfile, _ type: Int, most: Int) {
    let text = profile.flameGraph(sampleType: type, most: most)
    // The parser takes longer than all else here, so only short texts are parsed.
    if text.count < 1000 {
        let isJSON = JSONParser.parse(text, dialect: .strict, problems: Problems()) != nil
        promise(isJSON, "a graph that is no JSON: \(String(decoding: text, as: UTF8.self))")
    }
    // The places are the last member.
    let list = text.dropLast(2).reversed().prefix { $0 != UInt8(ascii: "[") }.reversed()
    let flat = list.split(separator: UInt8(ascii: ",")).compactMap { Int64(String(decoding: $0, as: UTF8.self)) }
    promise(flat.count >= 3 && flat.count % 3 == 0 && flat.count / 3 <= 2 * most, "\(flat.count) numbers")
    var path: [(total: Int64, left: Int64)] = []
    for index in stride(from: 0, to: flat.count, by: 3) {
        let (depth, total) = (Int(flat[index]), flat[index + 2])
        promise(depth <= path.count && (depth > 0) == (index > 0) && total >= 0, "a place at depth \(depth) below \(path.count)")
        path.removeLast(path.count - depth)
        if depth > 0, path[depth - 1].total < .max {
            promise(path[depth - 1].left >= total, "more below a place than in it")
            path[depth - 1].left -= total
        }
        path.append((total, total))
    }
}

/// Checks that the stacks as text are read as the same ones.
private func checkFolded(_ profile: ReadProfile, _ type: Int) {
    guard let text = try? profile.folded(sampleType: type, most: 1 << 20), !text.isEmpty else { return }
    var wide = limits
    (wide.samples, wide.nameBytes) = (.max, .max)
    guard let again = try? ReadProfile(reading: text, format: .folded, limits: wide) else {
        fatalError("broken promise: its own text is not read: \(String(decoding: text, as: UTF8.self))")
    }
    let atRoot = profile.tree.value(0, type).magnitude
    let whole = profile.total(sampleType: type)
    guard whole < .max else { return }
    promise(again.total(sampleType: 0) + Int64(clamping: atRoot) == whole, "another total as text")
    // A semicolon in a name is a comma in the text, which may make two names one.
    guard !profile.tree.names.contains(where: { $0.contains(";") }) else { return }
    promise((try? again.folded(sampleType: 0)) == text, "other text when written again")
}
