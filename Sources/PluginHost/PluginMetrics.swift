import PluginABI
import Synchronization
package import Telemetry

/// Receives the metrics of a plugin that runs in another process than the gateway. Called from any thread.
protocol MetricForwarder: AnyObject, Sendable {
    /// A metric was declared that was not before.
    func declared(_ id: UInt32, _ kind: UInt32, name: String, help: String, labels: [MetricLabel])
    func observed(_ id: UInt32, _ value: Int64)
}

/// The metrics that one plugin instance has declared; `observe` takes no lock.
@safe package final class PluginMetrics: Sendable {
    /// How many metrics an instance may declare; further declarations are refused.
    static let limit = 1024

    private final class Cell: Sendable {
        let kind: gw_metric_kind
        let name: String
        let help: String
        let labels: [MetricLabel]
        let value = Atomic<Int64>(0)
        let histogram: Histogram?
        /// Name and labels.
        var key: [String] { [name] + labels.flatMap { [$0.name, $0.value] } }

        init(_ kind: gw_metric_kind, _ name: String, _ help: String, _ labels: [MetricLabel]) {
            self.kind = kind
            self.name = name
            self.help = help
            self.labels = labels
            histogram = kind == .seconds ? Histogram() : nil
        }
    }

    /// The declarations of one instance.
    private final class Declared: Sendable {
        let cells = Mutex<[Cell]>([])
    }

    private let declared = Declared()
    /// The declarations of the previous instance, which may still declare and count; a counter or histogram declared again
    /// continues from there.
    private let before: Declared?
    /// The declarations of the instances before the previous one.
    private let inherited: [Cell]
    // Slot i points to cell i once that is declared; each slot is written once and read without the lock.
    private nonisolated(unsafe) let slots: UnsafeMutablePointer<Atomic<UInt>>

    private let prefix: String?
    /// The plugins that come with the gateway may name their metrics as its own.
    private static let ownPrefixes = ["gateway_file_", "gateway_stdout_"]

    /// Where this object only forwards metrics; nil where it counts.
    private let forwarder: (any MetricForwarder)?

    /// - Parameters:
    ///   - previous: the metrics of the previous instance, if it was of the same plugin.
    ///   - plugin: the plugin's name, with which the names of its metrics begin; nil when it is checked elsewhere.
    package convenience init(continuing previous: PluginMetrics? = nil, of plugin: String? = nil) {
        self.init(continuing: previous, of: plugin, forwardingTo: nil)
    }

    init(continuing previous: PluginMetrics? = nil, of plugin: String? = nil, forwardingTo forwarder: (any MetricForwarder)?) {
        self.forwarder = forwarder
        prefix = plugin.map { $0.map { $0.isASCII && ($0.isLetter || $0.isNumber) ? String($0) : "_" }.joined() + "_" }
        before = previous?.declared
        // Bounded, because names that change with each config must not accumulate.
        inherited = (previous?.earlier ?? []).suffix(Self.limit)
        unsafe slots = .allocate(capacity: Self.limit)
        for index in 0..<Self.limit { unsafe (slots + index).initialize(to: Atomic(0)) }
    }

    deinit { unsafe slots.deallocate() }

    /// Declares a metric and returns its id; the same name and labels give the same id. Ids count from 1; 0 is no metric.
    ///
    /// - Throws: the reason why the metric is refused.
    func declare(_ kind: gw_metric_kind, name: String, help: String, labels: [MetricLabel]) throws(Refusal) -> UInt32 {
        if name.hasPrefix("gateway_"), !Self.ownPrefixes.contains(where: name.hasPrefix) {
            throw Refusal("metric \(quotedForPeople(name)) has a name of the gateway's own")
        }
        if let prefix, !name.hasPrefix(prefix) { throw Refusal("metric \(quotedForPeople(name)) does not begin with \(prefix)") }
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
            forwarder?.declared(UInt32(cells.count), kind.rawValue, name: name, help: help, labels: labels)
            return UInt32(cells.count)
        }
    }

    /// Whether a metric of this name was declared with another help text; a page has one for each name, the first.
    func hasOtherHelp(_ name: String, _ help: String) -> Bool {
        declared.cells.withLock { $0.contains { $0.name == name && $0.help != help } }
    }

    /// The cell of an earlier instance for the same counter or histogram.
    private func known(_ kind: gw_metric_kind, _ name: String, _ labels: [MetricLabel]) -> Cell? {
        guard kind != .gauge else { return nil }
        let isSame = { (cell: Cell) in cell.kind == kind && cell.name == name && cell.labels == labels }
        return before?.cells.withLock { $0.first(where: isSame) } ?? inherited.first(where: isSame)
    }

    /// The cells of earlier instances, without gauges, which describe their own instance only.
    private var earlier: [Cell] {
        let before = before?.cells.withLock { $0 } ?? []
        return Self.without(before, inherited) + before.filter { $0.kind != .gauge }
    }

    /// All cells: those of this instance, and those of earlier instances.
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
        if let forwarder { return forwarder.observed(id, value) }
        // Several come with each delivery, so the reference is not counted.
        unsafe Unmanaged<Cell>.fromOpaque(pointer)._withUnsafeGuaranteedRef { cell in
            switch cell.kind {
            case .counter: cell.value.wrappingAdd(max(0, value), ordering: .relaxed)
            case .gauge: cell.value.store(value, ordering: .relaxed)
            default: cell.histogram?.observe(nanoseconds: max(0, value))
            }
        }
    }

    /// Adds every metric to a page, with the receiver's name as a label.
    package func collect(receiver: String, into page: inout Exposition) {
        for cell in cells {
            let labels = [MetricLabel(name: "receiver", value: receiver)] + cell.labels
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
