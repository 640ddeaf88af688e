package import ConfigJSON

/// The problems with the files that one part of a config names.
package struct FileProblems: Error, CustomStringConvertible {
    package private(set) var list: [Problem] = []

    package init(_ list: Problem...) { self.list = list }

    package var description: String { list.map(\.description).joined(separator: "; ") }

    /// Runs a step and returns its result; when the step throws, notes its problem and returns nil.
    mutating func collect<T>(_ step: () throws(Problem) -> T?) -> T? {
        do throws(Problem) { return try step() } catch {
            list.append(error)
            return nil
        }
    }

    package mutating func collect<T>(all part: () throws(FileProblems) -> T?) -> T? {
        do throws(FileProblems) { return try part() } catch {
            list += error.list
            return nil
        }
    }

    /// Throws the noted problems, if there are any.
    func check() throws(FileProblems) { if !list.isEmpty { throw self } }
}
