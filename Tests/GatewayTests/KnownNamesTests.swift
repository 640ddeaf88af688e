import Dispatch
import Profiles
import Synchronization
import Testing

@testable import ProfileAPI

@Suite("Names of /ingest that were read before")
struct KnownNamesTests {
    /// Reads a name through the memory.
    ///
    /// - Returns: its labels, and whether it had to be read.
    private static func labels(_ name: String, _ names: KnownNames) throws -> (labels: LabelSet, wasRead: Bool) {
        var wasRead = false
        let labels = try names.labels(Array(name.utf8)[...]) { () throws(LabelSet.ParseError) in
            wasRead = true
            return try LabelSet(parsing: name)
        }
        return (labels, wasRead)
    }

    @Test("A name is read once, and has the same labels each time")
    func again() throws {
        let names = KnownNames()
        let expected = try LabelSet(parsing: "app{region=eu,pod=a-1}")
        for turn in 0..<3 {
            let found = try Self.labels("app{region=eu,pod=a-1}", names)
            #expect(found.labels == expected && found.wasRead == (turn == 0))
        }
        // Each byte counts.
        #expect(try Self.labels("app{region=eu,pod=a-2}", names).labels["pod"] == "a-2")
        #expect(try Self.labels("app{region=eu,pod=a-1", names).labels["pod"] == nil)
    }

    @Test("A name is kept up to the longest, and a longer one is read each time", arguments: [-1, 0, 1])
    func length(excess: Int) throws {
        let names = KnownNames()
        let name = String(repeating: "n", count: KnownNames.longest + excess)
        #expect(try Self.labels(name, names).wasRead)
        #expect(try Self.labels(name, names).wasRead == (excess > 0))
    }

    @Test("Any number of names have their own labels, although later ones take the places of earlier ones")
    func many() throws {
        let names = KnownNames()
        var reads = 0
        for turn in 0..<3 {
            for number in 0..<1000 {
                let found = try Self.labels("app\(number){turn=x}", names)
                #expect(found.labels["__name__"] == "app\(number)")
                if turn > 0, found.wasRead { reads += 1 }
            }
        }
        // Where no two names ever took each other's place, nothing bounds the memory.
        #expect(reads > 1000)
    }

    @Test("A name that cannot be read is an error each time")
    func error() throws {
        let names = KnownNames()
        for _ in 0..<2 {
            #expect(throws: LabelSet.ParseError.invalidServiceName("a b")) { try Self.labels("a b{c=d}", names) }
        }
    }

    @Test("Threads that read the same and other names at the same time get the right labels")
    func threads() {
        let names = KnownNames()
        let wrong = Atomic(0)
        DispatchQueue.concurrentPerform(iterations: 8) { thread in
            for number in 0..<2000 {
                let name = "app\((number &* 31 &+ thread) % 300)"
                if (try? Self.labels(name, names))?.labels["__name__"] != name { wrong.add(1, ordering: .relaxed) }
            }
        }
        #expect(wrong.load(ordering: .relaxed) == 0)
    }
}
