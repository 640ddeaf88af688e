import PluginABI
import Synchronization

/// The metrics one plugin instance has declared; observing takes no lock.
@safe final class PluginMetrics: Sendable {
    /// How many metrics an instance may declare; a further one is not kept.
    static let limit = 1024

    private final class Cell: Sendable {
        let kind: gw_metric_kind
        let name: String
        let help: String
        let labels: [Label]
        let value = Atomic<Int64>(0)
        let histogram: Histogram?
        /// Name and labels.
        var key: [String] { [name] + labels.flatMap { [$0.name, $0.value] } }

        init(_ kind: gw_metric_kind, _ name: String, _ help: String, _ labels: [Label]) {
            self.kind = kind
            self.name = name
            self.help = help
            self.labels = labels
            histogram = kind == .seconds ? Histogram() : nil
        }
    }

    /// What one instance has declared.
    private final class Declared: Sendable {
        let cells = Mutex<[Cell]>([])
    }

    private let declared = Declared()
    /// That of the instance before, which may still declare and count; what is declared again goes on from there.
    private let before: Declared?
    /// What the instances before that one have declared.
    private let inherited: [Cell]
    // Slot i holds cell i once it is declared; it is written once and read without the lock.
    private nonisolated(unsafe) let slots: UnsafeMutablePointer<Atomic<UInt>>

    /// - Parameter previous: that of the instance before, where it was of the same plugin.
    init(continuing previous: PluginMetrics? = nil) {
        before = previous?.declared
        // Names that come and go with configs must not pile up.
        inherited = (previous?.earlier ?? []).suffix(Self.limit)
        unsafe slots = .allocate(capacity: Self.limit)
        for index in 0..<Self.limit { unsafe (slots + index).initialize(to: Atomic(0)) }
    }

    deinit { unsafe slots.deallocate() }

    /// Declares a metric and answers its id; the same name and labels answer the same one. Ids count from 1; 0 is none.
    ///
    /// - Throws: the sentence that says why there is no such metric.
    func declare(_ kind: gw_metric_kind, name: String, help: String, labels: [Label]) throws(Refusal) -> UInt32 {
        guard Self.isName(name), labels.allSatisfy({ Self.isName($0.name) && !$0.name.contains(":") }) else {
            throw Refusal("metric \(quotedForPeople(name)) has a name that Prometheus does not allow")
        }
        guard [.counter, .gauge, .seconds].contains(kind) else { throw Refusal("metric \(name) is of no known kind") }
        let reserved = labels.first { $0.name == "receiver" || $0.name == "le" }?.name
        if let reserved { throw Refusal("metric \(name) sets the label \(reserved), which is the gateway's") }
        guard Set(labels.map(\.name)).count == labels.count else { throw Refusal("metric \(name) has a label twice") }
        return try declared.cells.withLock { (cells) throws(Refusal) in
            if cells.contains(where: { $0.name == name && $0.kind != kind }) {
                throw Refusal("metric \(name) was declared before as another kind")
            }
            if let index = cells.firstIndex(where: { $0.name == name && $0.labels == labels }) { return UInt32(index + 1) }
            guard cells.count < Self.limit else { throw Refusal("metric \(name) is one more than \(Self.limit)") }
            let cell = known(kind, name, labels) ?? Cell(kind, name, help, labels)
            let bits = unsafe UInt(bitPattern: Unmanaged.passUnretained(cell).toOpaque())
            unsafe slots[cells.count].store(bits, ordering: .releasing)
            cells.append(cell)
            return UInt32(cells.count)
        }
    }

    /// The cell of an instance before that counts the same.
    private func known(_ kind: gw_metric_kind, _ name: String, _ labels: [Label]) -> Cell? {
        guard kind != .gauge else { return nil }
        let isSame = { (cell: Cell) in cell.kind == kind && cell.name == name && cell.labels == labels }
        return before?.cells.withLock { $0.first(where: isSame) } ?? inherited.first(where: isSame)
    }

    /// What the instances before have declared and counted; a gauge tells of its own instance only.
    private var earlier: [Cell] {
        let before = before?.cells.withLock { $0 } ?? []
        return Self.without(before, inherited) + before.filter { $0.kind != .gauge }
    }

    /// What is declared, and what was before.
    private var cells: [Cell] {
        let declared = declared.cells.withLock { $0 }
        return Self.without(declared, earlier) + declared
    }

    private static func without(_ newer: [Cell], _ older: [Cell]) -> [Cell] {
        let keys = Set(newer.map(\.key))
        return older.filter { !keys.contains($0.key) }
    }

    struct Refusal: Error {
        let message: String
        init(_ message: String) { self.message = message }
    }

    /// Adds to a counter, sets a gauge, or observes a duration in nanoseconds; an unknown id does nothing.
    func observe(_ id: UInt32, _ value: Int64) {
        guard 1...Self.limit ~= Int(id) else { return }
        let bits = unsafe slots[Int(id) - 1].load(ordering: .acquiring)
        guard let pointer = unsafe UnsafeRawPointer(bitPattern: bits) else { return }
        let cell = unsafe Unmanaged<Cell>.fromOpaque(pointer).takeUnretainedValue()
        switch cell.kind {
        case .counter: cell.value.wrappingAdd(max(0, value), ordering: .relaxed)
        case .gauge: cell.value.store(value, ordering: .relaxed)
        default: cell.histogram?.observe(nanoseconds: max(0, value))
        }
    }

    /// Adds every declared metric to a page, labelled with its receiver.
    func collect(receiver: String, into page: inout Exposition) {
        for cell in cells {
            let labels = [Label(name: "receiver", value: receiver)] + cell.labels
            let value = Int(cell.value.load(ordering: .relaxed))
            switch cell.kind {
            case .counter: page.add(.counter, cell.name, help: cell.help, labels, value)
            case .gauge: page.add(.gauge, cell.name, help: cell.help, labels, value)
            default: if let histogram = cell.histogram { page.add(cell.name, help: cell.help, labels, histogram) }
            }
        }
    }

    private static func isName(_ text: String) -> Bool {
        guard let first = text.utf8.first, !(48...57 ~= first) else { return false }
        return text.utf8.allSatisfy { (48...57 ~= $0) || (65...90 ~= $0 & 0xDF) || $0 == 95 || $0 == 58 }
    }
}
