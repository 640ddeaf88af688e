/// The states of a receiver's instances by their numbers: one instance, or two while a reload replaces it.
struct Instances {
    private var keys: [Int] = []
    private var states: [InstanceState] = []

    var count: Int { keys.count }
    /// The numbers, rising.
    var numbers: [Int] { keys.sorted() }

    /// The state of an instance; setting nil removes it.
    subscript(number: Int) -> InstanceState? {
        get {
            guard let index = keys.firstIndex(of: number) else { return nil }
            return states[index]
        }
        set {
            let index = keys.firstIndex(of: number)
            if let index, let newValue {
                states[index] = newValue
            } else if let index {
                keys.remove(at: index)
                states.remove(at: index)
            } else if let newValue {
                keys.append(number)
                states.append(newValue)
            }
        }
    }
}
