/// An object that knows its place in an ``IndexedSet``.
protocol IndexedObject: AnyObject {
    /// Set by the set that holds the object.
    var index: Int { get set }
}

/// Objects in no order, each of which is added and removed in the same time, however many there are.
struct IndexedSet<Element: IndexedObject> {
    private(set) var all: [Element] = []

    mutating func add(_ object: Element) {
        object.index = all.count
        all.append(object)
    }

    /// Removes an object that it holds.
    mutating func remove(_ object: Element) {
        let (index, last) = (object.index, all.removeLast())
        guard last !== object else { return }
        last.index = index
        all[index] = last
    }

    func contains(_ object: Element) -> Bool { object.index < all.count && all[object.index] === object }
}
