import ConfigJSON

/// All that is wrong with the files that one part of a config names.
struct FileProblems: Error, CustomStringConvertible {
    private(set) var list: [Problem] = []

    init(_ list: Problem...) { self.list = list }

    var description: String { list.map(\.description).joined(separator: "; ") }

    /// Takes a step, and notes why it fails; answers what came of it.
    mutating func collect<T>(_ step: () throws(Problem) -> T?) -> T? {
        do throws(Problem) { return try step() } catch {
            list.append(error)
            return nil
        }
    }

    mutating func collect<T>(all part: () throws(FileProblems) -> T?) -> T? {
        do throws(FileProblems) { return try part() } catch {
            list += error.list
            return nil
        }
    }

    /// Throws what was noted, if anything was.
    func check() throws(FileProblems) { if !list.isEmpty { throw self } }
}
