import ConfigJSON
import Glibc
import PluginABI

/// The extension `gw.json/1`: a strict reader of JSON for plugins that have none of their own.
@safe enum JSONExtension {
    /// The functions, shared by all instances; never freed.
    nonisolated(unsafe) static let table: UnsafePointer<gw_json> = {
        let table = UnsafeMutablePointer<gw_json>.allocate(capacity: 1)
        unsafe table.initialize(
            to: gw_json(
                size: MemoryLayout<gw_json>.size,
                parse: { text, error in unsafe JSONExtension.parse(text, &error.pointee) },
                release: { first in unsafe free(UnsafeMutableRawPointer(mutating: first)) },
                member: { object, name in
                    let name = unsafe String(cString: name)
                    return unsafe JSONExtension.members(of: object).first { unsafe $0.pointee.name.equals(name) }
                },
                unknown: { object, names, count in
                    let names = unsafe UnsafeBufferPointer(start: names, count: names == nil ? 0 : max(0, count)).compactMap {
                        unsafe $0.map { unsafe String(cString: $0) }
                    }
                    return unsafe JSONExtension.members(of: object).first { member in
                        !names.contains { unsafe member.pointee.name.equals($0) }
                    }
                }))
        return unsafe UnsafePointer(table)
    }()

    private static func parse(_ text: gw_slice, _ error: inout gw_error) -> UnsafePointer<gw_json_value>? {
        let problems = Problems()
        let bytes = unsafe Array(UnsafeBufferPointer(start: text.bytes, count: text.bytes == nil ? 0 : max(0, text.count)))
        let value = JSONParser.parse(bytes, dialect: .strict, problems: problems)
        guard let value, problems.list.isEmpty else {
            let lines = problems.list.map { problem in
                let place = problem.position.map { "line \($0.line), column \($0.column): " } ?? ""
                return "\(place)\(problem.description)"
            }
            unsafe write(lines.joined(separator: "\n"), to: &error)
            return nil
        }
        var size = Size()
        size.add(value, name: "")
        // One block, so that the first value's address is all that is needed to free it.
        let valueBytes = unsafe size.values * MemoryLayout<gw_json_value>.stride
        guard let block = unsafe malloc(valueBytes + size.text) else {
            unsafe write("there is no memory for the values", to: &error)
            return nil
        }
        let first = unsafe block.bindMemory(to: gw_json_value.self, capacity: size.values)
        var layout = unsafe Layout(next: first, text: (block + valueBytes).assumingMemoryBound(to: UInt8.self))
        layout.add(value, name: "")
        return unsafe UnsafePointer(first)
    }

    private static func write(_ message: String, to error: inout gw_error) {
        let bytes = Array(message.utf8.prefix(unsafe error.capacity))
        for (index, byte) in bytes.enumerated() { unsafe error.text[index] = CChar(bitPattern: byte) }
        unsafe error.count = bytes.count
    }

    /// The members of an object; empty for NULL and for other values.
    private static func members(of object: UnsafePointer<gw_json_value>?) -> [UnsafePointer<gw_json_value>] {
        guard let object = unsafe object, unsafe object.pointee.kind == .object else { return unsafe [] }
        var members: [UnsafePointer<gw_json_value>] = unsafe []
        var next = unsafe object + 1
        for _ in 0..<(unsafe object.pointee.count) {
            unsafe members.append(next)
            unsafe next += next.pointee.span
        }
        return unsafe members
    }

    /// How much memory the values of a text take.
    private struct Size {
        var values = 0
        var text = 0

        mutating func add(_ value: JSONValue, name: String) {
            values += 1
            text += name.utf8.count
            switch value.content {
            case .null, .bool: break
            case .number(let digits): text += digits.utf8.count
            case .string(let string): text += string.utf8.count
            case .array(let elements): for element in elements { add(element, name: "") }
            case .object(let members): for member in members { add(member.value, name: member.name) }
            }
        }
    }

    /// Lays the values of a text out, in the memory that ``Size`` has counted.
    @safe private struct Layout {
        private var next: UnsafeMutablePointer<gw_json_value>
        private var text: UnsafeMutablePointer<UInt8>

        init(next: UnsafeMutablePointer<gw_json_value>, text: UnsafeMutablePointer<UInt8>) {
            unsafe (self.next, self.text) = unsafe (next, text)
        }

        mutating func add(_ value: JSONValue, name: String) {
            let place = unsafe next
            unsafe next += 1
            var made = unsafe gw_json_value()
            unsafe made.name = slice(name)
            switch value.content {
            case .null: unsafe made.kind = .null
            case .bool(let isTrue): unsafe (made.kind, made.number) = (.boolean, isTrue ? 1 : 0)
            case .number(let digits): unsafe (made.kind, made.text, made.number) = (.number, slice(digits), Double(digits) ?? 0)
            case .string(let string): unsafe (made.kind, made.text) = (.string, slice(string))
            case .array(let elements):
                unsafe (made.kind, made.count) = (.array, UInt32(clamping: elements.count))
                for element in elements { add(element, name: "") }
            case .object(let members):
                unsafe (made.kind, made.count) = (.object, UInt32(clamping: members.count))
                for member in members { add(member.value, name: member.name) }
            }
            unsafe made.span = unsafe next - place
            unsafe place.initialize(to: made)
        }

        private mutating func slice(_ string: String) -> gw_slice {
            let start = unsafe text
            for byte in string.utf8 {
                unsafe text.initialize(to: byte)
                unsafe text += 1
            }
            return unsafe gw_slice(bytes: start, count: text - start)
        }
    }
}

extension gw_slice {
    fileprivate func equals(_ string: String) -> Bool {
        unsafe UnsafeBufferPointer(start: bytes, count: count).elementsEqual(string.utf8)
    }
}
