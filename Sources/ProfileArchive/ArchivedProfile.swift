import ConfigJSON
import Glibc
public import LinuxSystem
import PluginABI

/// An archived profile, as described by its metadata.
public struct ArchivedProfile: Sendable {
    /// Why a file of an archive cannot be used.
    public struct Damage: Error, CustomStringConvertible {
        /// The problem in words, with the file's name.
        public let description: String
    }

    /// The file of one payload, with its expected size and hash.
    public struct Payload: Sendable {
        /// The file's name, in the folder of the metadata.
        public let file: String
        /// The sample's id on Push, else empty.
        public let id: String
        let size: Int
        let hash: String
    }

    /// Whether the profile was received by the Push API; otherwise by `/ingest`.
    public let isPush: Bool
    /// The sender's `X-Scope-OrgID`; empty when there was none.
    public let tenant: String
    /// The labels, in the order of the text.
    public let labels: [(name: String, value: String)]
    /// The request's query, still percent-encoded.
    public let query: String
    /// The request's Content-Type; empty when there was none.
    public let contentType: String
    /// The request's Content-Encoding; empty when there was none.
    public let contentEncoding: String
    /// The other headers that were kept.
    public let headers: [(name: String, value: String)]
    /// One on `/ingest`, one per sample on Push.
    public let payloads: [Payload]

    /// The most bytes of metadata that are read; a Push with the maximum of samples has 20 MiB.
    private static let maximumSize = 32 << 20

    /// Reads the metadata in the file `name` of a folder.
    public init(_ name: String, in folder: OpenFolder) throws(Damage) {
        let text = try Self.bytes(of: name, in: folder, limit: Self.maximumSize)
        let problems = Problems()
        guard let value = JSONParser.parse(text, dialect: .strict, problems: problems), problems.list.isEmpty else {
            throw Self.damage(problems)
        }
        let object = ConfigObject(value, path: "", problems: problems)
        if object.integer("version", in: 0...Int.max, default: -1) != ProfileMetadata.formatVersion {
            object.refuse("version", "is not \(ProfileMetadata.formatVersion)")
        }
        isPush = object.required("api") == "push"
        tenant = object.required("tenant")
        query = object.required("query")
        contentType = object.required("content_type")
        contentEncoding = object.required("content_encoding")
        labels = object.stringMembers("labels")
        headers = object.pairs("headers")
        payloads = (object.objects("samples") ?? []).map(Payload.init)
        // Each payload has its own file, so that no more is read than the files contain.
        if Set(payloads.map(\.file)).count < payloads.count { object.refuse("samples", "name a file twice") }
        if !isPush, payloads.count != 1 { object.refuse("samples", "must be one, are \(payloads.count)") }
        guard problems.list.isEmpty else { throw Self.damage(problems) }
    }

    private static func damage(_ problems: Problems) -> Damage {
        Damage(description: "no metadata of a profile: " + problems.list.map(\.description).joined(separator: "; "))
    }

    /// Reads a payload from the folder of its metadata, and checks its size and hash.
    public func bytes(of payload: Payload, in folder: OpenFolder) throws(Damage) -> [UInt8] {
        let (size, hash) = try Self.sum(payload.file, in: folder, size: payload.size)
        guard size == payload.size else {
            throw Damage(description: "\(payload.file) has \(size) bytes and not \(payload.size)")
        }
        guard hash == payload.hash else { throw Damage(description: "\(payload.file) has another SHA-256") }
        return try Self.bytes(of: payload.file, in: folder, limit: payload.size)
    }

    /// The size and SHA-256 of a file. A sparse file may have any size, so nothing is kept in memory before both are checked.
    ///
    /// - Parameter size: the expected size; a file of another size is not read.
    private static func sum(_ name: String, in folder: OpenFolder, size: Int) throws(Damage) -> (size: Int, hash: String?) {
        do throws(SystemError) {
            let file = try folder.open(name, O_RDONLY)
            let found = try file.size()
            guard found == size else { return (found, nil) }
            let hash = SHA256Stream()
            try file.readPieces(from: 0, unit: 1) { piece in
                unsafe hash.add(piece.span.bytes)
                return true
            }
            return (found, SHA256.hexadecimal(hash.finish()))
        } catch { throw Damage(description: "\(error)") }
    }

    /// Reads a regular file; does not block on a pipe and does not follow a link.
    private static func bytes(of name: String, in folder: OpenFolder, limit: Int) throws(Damage) -> [UInt8] {
        do throws(SystemError) {
            return try folder.open(name, O_RDONLY).readAll(limit: limit)
        } catch {
            let isLarge = error.code == EFBIG && error.operation == "read"
            throw Damage(description: isLarge ? "\(folder.path(of: name)) has more than \(limit) bytes" : "\(error)")
        }
    }
}

extension ArchivedProfile.Payload {
    fileprivate init(_ object: ConfigObject) {
        file = object.required("file")
        id = object.required("id")
        size = object.integer("size", in: 0...Int.max, default: 0)
        hash = object.required("sha256")
        // The name is used to open and perhaps remove a file, so it must not lead out of the folder.
        if file.isEmpty || file.utf8.first == UInt8(ascii: ".") || file.hasSlash { object.refuse("file", "is no file name of an archive") }
    }
}

extension ConfigObject {
    /// A required string.
    fileprivate func required(_ name: String) -> String {
        if value(name) == nil { refuse(name, "is missing") }
        return string(name) ?? ""
    }

    /// An array of pairs of name and value.
    fileprivate func pairs(_ name: String) -> [(name: String, value: String)] {
        guard case .array(let elements)? = value(name)?.content else { return [] }
        return elements.compactMap { element in
            guard case .array(let pair) = element.content, pair.count == 2, case .string(let name) = pair[0].content,
                case .string(let value) = pair[1].content
            else { return nil }
            return (name, value)
        }
    }
}
