/// Entries of a pprof that are found by the ids that its writer chose; these are mostly 1, 2, 3 and so on.
struct PprofTable<Entry> {
    var entries: [Entry] = []
    /// The place of the entry with each id that is not far beyond the number of entries, or -1.
    private var near: [Int32] = []
    private var far: [UInt64: Int32] = [:]

    /// Adds an entry; one without an id gets its place, from 1, as Pyroscope's profiler of .NET means it.
    mutating func add(_ written: UInt64, _ entry: Entry, _ what: String, _ limit: Int) throws(ReadProfile.Problem) {
        let id = written == 0 ? UInt64(entries.count) + 1 : written
        guard self[id] == nil else { throw .init("two \(what)s have the id \(id)") }
        guard entries.count < limit else { throw .init("the profile has more than \(limit) \(what)s") }
        let place = Int32(clamping: entries.count)
        if id <= UInt64(entries.count) * 2 + 64 {
            while UInt64(near.count) <= id { near.append(-1) }
            near[Int(id)] = place
        } else {
            far[id] = place
        }
        entries.append(entry)
    }

    /// The place of the entry with an id.
    subscript(id: UInt64) -> Int? {
        if id < UInt64(near.count), near[Int(id)] >= 0 { return Int(near[Int(id)]) }
        return far.isEmpty ? nil : far[id].map(Int.init)
    }
}
