import Glibc
import LinuxSystem
import PluginABI

@testable import ProfileAPI
@testable import Profiles
@testable import SpoolStore

// MARK: A segment

/// A start ends with any content of a segment's three files, a second start finds the same, and all that waits can be settled.
///
/// The first byte says which check sums are corrected and which files exist, and the next four are the sizes of records and index.
func fuzzSegment(_ bytes: [UInt8]) {
    guard let flags = bytes.first, bytes.count >= 5 else { return }
    let input = FuzzBytes(bytes: bytes)
    let recordsEnd = min(bytes.count, 5 + input.number(1, 2))
    let indexEnd = min(bytes.count, recordsEnd + input.number(3, 2))
    let folder = FuzzFolder()
    let parts = [(SpoolFormat.File.records, 5..<recordsEnd), (.index, recordsEnd..<indexEnd), (.settled, indexEnd..<bytes.count)]
    for (bit, (file, range)) in parts.enumerated() where flags >> UInt8(bit) & 1 == 0 {
        // A second segment with the same content tests how copies are found.
        for number: UInt8 in flags & 32 == 0 ? [1] : [1, 2] {
            var part = FuzzBytes(bytes: Array(bytes[range]))
            if flags & 8 == 0 { putRight(&part, file, number, bodies: flags & 16 == 0) }
            folder.write("spool/\(file.name(of: UInt64(number)))", part.bytes)
        }
    }
    folder.write("spool/none", [])
    check(folder.path)
}

/// Corrects the segment's number and all check sums in one of its files.
private func putRight(_ part: inout FuzzBytes, _ file: SpoolFormat.File, _ segment: UInt8, bodies: Bool) {
    if part.bytes.count > 16 { part.bytes[16] = segment }
    let start = SpoolHeader.size + part.number(48, 4)
    if start <= part.bytes.count { part.sum(SpoolHeader.size..<start, at: 52) }
    part.sum(0..<60, at: 60)
    let seed = UInt32(truncatingIfNeeded: part.number(24, 4))
    switch file {
    case .records:
        var offset = start
        while offset + SpoolRecord.fixedSize <= part.bytes.count, part.number(offset, 4) == Int(SpoolRecord.magic) {
            let head = offset + SpoolRecord.fixedSize + part.number(offset + 48, 4)
            let end = head + part.number(offset + 40, 4)
            if bodies, head <= end { part.sum(head..<end, at: offset + 44) }
            part.sum(min(offset + 8, head)..<head, at: offset + 4)
            offset = end
        }
    case .index: part.sumEntries(from: start, size: IndexEntry.size, seed: seed)
    case .settled: part.sumEntries(from: start, size: SettledEntry.size, seed: seed)
    }
}

/// Checks starts, read-only views and deliveries of a data directory.
private func check(_ path: String) {
    let seen = recovered(path, mayWrite: false)
    let first = recovered(path, mayWrite: true)
    if let first, let again = recovered(path, mayWrite: true) {
        promise(again == first, "another start finds \(again), the first one \(first)")
        promise(again.allSatisfy { $0.live >= 0 }, "less than nothing waits")
    }
    promise((seen == nil) == (first == nil), "a start refuses what a look does not")
    guard first != nil, let reader = try? ReadOnlySpool(path) else { return }
    var waiting = 0
    let unreadable = reader.forEachSegment { content in
        for record in content.records where record.live != 0 {
            waiting += 1
            promise(record.entry.end > Int(record.entry.offset) && record.entry.end <= Int(UInt32.max), "a record in no place")
        }
    }
    promise(unreadable.isEmpty, "a segment that cannot be read: \(unreadable)")
    for record in reader.waiting(for: nil, limit: 0).records { _ = try? record.profile(reader.folder) }
    _ = try? QueueSummary.all(path)
    if var check = try? SpoolCheck(path) { check.run { _ in } }
    let spool = must { () throws(SystemError) in
        do throws(SpoolRecovery.Refusal) {
            return try Spool(dataDirectory: path, SpoolConfig(minFreeBytes: 0), pendingLimit: 1 << 20)
        } catch { fatalError("broken promise: a start fails: \(error)") }
    }
    deliver(spool, waiting)
}

/// The profiles and bytes that a recovery leaves for one receiver of one segment.
private struct Waiting: Equatable {
    let receiver: String
    let live: Int
    let bytes: Int
}

/// The result of a recovery, or nil when it refuses the data directory.
private func recovered(_ path: String, mayWrite: Bool) -> [Waiting]? {
    guard let recovery = try? SpoolRecovery.read(SpoolFolder(DataDirectory(path)), mayWrite: mayWrite) else { return nil }
    promise(recovery.unreadable.isEmpty, "a file that is there cannot be read")
    promise(recovery.nextNumber > 0, "no number is left")
    // A segment that another one has settled completely is removed by the next start.
    return recovery.segments.filter { !$0.isSettled }.flatMap { segment in
        segment.header.receivers.enumerated().map { Waiting(receiver: $1, live: segment.live[$0], bytes: segment.liveBytes[$0]) }
    }
}

/// Reads and settles everything that waits like a receiver's queue, and checks that nothing is left.
private func deliver(_ spool: Spool, _ limit: Int) {
    let receivers = spool.state.withLock { Set($0.segments.values.flatMap(\.header.receivers)) }
    for receiver in receivers {
        let reader = SpoolQueue(spool, receiver, knownAtStart: [1: .max, 2: .max])
        var cursor = SpoolCursor()
        var count = 0
        while let found = try? reader.next(16, after: &cursor), !found.isEmpty {
            for record in found {
                _ = try? reader.read(record.position, sequence: record.sequence)
                _ = SpoolClock.time(of: record.time, offset: record.clockOffset, now: .now)
                reader.settle(record.position)
            }
            count += found.count
            promise(count <= limit, "more is delivered than waits")
        }
        promise(spool.backlog(of: receiver).profiles == 0, "something waits that is never read")
    }
    let (notes, segments) = spool.state.withLock { ($0.notes, $0.segments.values.map(\.header)) }
    for header in segments { _ = Spool.entries(notes.filter { $0.position.segment == header.segment }, header) }
}

// MARK: A record

/// A record is refused, or is the same when it is written again and valid for plugins.
func fuzzRecord(_ bytes: [UInt8]) {
    var input = FuzzBytes(bytes: bytes)
    let head = SpoolRecord.fixedSize + input.number(48, 4)
    if head <= bytes.count {
        let length = bytes.count - head
        for index in 0..<4 where 40 + index < head { input.bytes[40 + index] = UInt8(truncatingIfNeeded: length >> (8 * index)) }
        input.sum(head..<bytes.count, at: 44)
        input.sum(8..<head, at: 4)
    }
    var buffer = ByteBuffer()
    must { () throws(SystemError) in try buffer.append(input.bytes.span.bytes) }
    let sequence = UInt64(truncatingIfNeeded: input.number(16, 8))
    guard let (record, profile) = try? SpoolRecord.profile(buffer, length: bytes.count, sequence: sequence, isSalt: { _ in true }) else {
        return
    }
    promise(record.encoded == Array(input.bytes[..<head]), "another head when written again")
    let body = encoded(profile)
    var again = ByteBuffer()
    must { () throws(SystemError) in try again.append(body.span.bytes) }
    let second = ReceivedProfile.decode(again, at: 0, sequence: sequence)
    promise(second.map(encoded) == body, "another profile when written and read again")
    let view = profile.view.pointee
    // A format of a later version is unknown here and read as pprof.
    let format = String(decoding: UnsafeBufferPointer(start: view.format.bytes, count: view.format.count), as: UTF8.self)
    promise(format == "pprof" || body == Array(input.bytes[head...]), "another profile when written again")
    let headers = UnsafeBufferPointer(start: view.headers, count: view.header_count)
    for text in [view.tenant, view.path, view.query, view.content_type, view.content_encoding] + headers.flatMap({ [$0.name, $0.value] }) {
        promise(!UnsafeBufferPointer(start: text.bytes, count: text.count).contains { [0, 10, 13].contains($0) }, "a line break in a head")
    }
    promise(view.api == .push || view.sample_count == 1, "not one payload on /ingest")
    withExtendedLifetime(profile) {}
}

/// The bytes of a profile in a record.
private func encoded(_ profile: ReceivedProfile) -> [UInt8] {
    var body = profile.encodedHead
    for index in 0..<profile.sampleCount { profile.withSample(index) { bytes in body += bytes.withUnsafeBytes { Array($0) } } }
    return body
}

// MARK: Names and numbers

/// A file name of the spool or the journal is the only one for its number, and the next number is free with any existing files.
func fuzzSpoolNames(_ bytes: [UInt8]) {
    let folder = FuzzFolder()
    let names = bytes.split(separator: 10).prefix(16).map { String(decoding: $0, as: UTF8.self) }
    for name in names
    where !name.isEmpty && name.utf8.count <= 200 && !name.hasSlash && !name.contains("\0") && ![".", ".."].contains(name) {
        folder.write("spool/\(name)", [])
        folder.write("requests/\(name)", [])
    }
    folder.write("spool/none", [])
    folder.write("requests/none", [])
    let directory = DataDirectory(folder.path)
    let listing = must { () throws(SystemError) in try SpoolFolder(directory).list() }
    let taken = listing.segments.map(\.number)
    promise(!taken.contains(listing.nextNumber) && listing.nextNumber <= SpoolFormat.largestNumber + 17, "the next number is none")
    promise(taken.allSatisfy { $0 < listing.nextNumber || $0 > SpoolFormat.largestNumber }, "a number that is not behind the others")
    for (number, files) in listing.segments {
        for file in files { promise(SpoolFormat.File.parse(file.name(of: number))?.segment == number, "a name of another number") }
    }
    let journal = RequestJournal(in: directory, SpoolConfig(sync: .never), limit: 10, window: .seconds(60))
    journal.read { _ in }
    let next = journal.state.withLock { $0.nextNumber }
    promise(access("\(folder.path)/requests/\(RequestFile.name(next))", F_OK) != 0, "the next file is there already")
}

/// Sequences continue and do not run out, whatever the file `sequence` contains.
func fuzzSequence(_ bytes: [UInt8]) {
    var input = FuzzBytes(bytes: bytes)
    input.sum(0..<8, at: 8)
    let folder = FuzzFolder()
    folder.write(SequenceFile.name, input.bytes)
    let before = ReceivedProfile.sequenceToCome
    let taken = must { () throws(SystemError) in try SequenceFile(folder.folder).take() }
    promise(
        ReceivedProfile.sequenceToCome >= before && ReceivedProfile.sequenceToCome <= 1 << 63,
        "sequences that do not rise, or come to an end")
    promise(must { () throws(SystemError) in try SequenceFile(folder.folder).readFromDisk() } == taken, "another number than was taken")
}

// MARK: Accepted requests

/// Requests from any file of accepted requests are remembered for at most their window, and writing continues.
func fuzzRequests(_ bytes: [UInt8]) {
    var input = FuzzBytes(bytes: bytes)
    input.sum(0..<28, at: 28)
    input.sumEntries(from: RequestFile.headerSize, size: AcceptedRequest.size, seed: UInt32(truncatingIfNeeded: input.number(24, 4)))
    let folder = FuzzFolder()
    folder.write("requests/\(RequestFile.name(1))", input.bytes)
    let window = Duration.seconds(300)
    let memory = RequestMemory(listener: "l", window: window)
    let journal = RequestJournal(in: DataDirectory(folder.path), SpoolConfig(sync: .never), limit: 10, window: window)
    journal.read { request in
        for now in [Int64.min, 0, request.acceptedAt, request.until, .max] {
            let left = request.left(unixNow: now, window: window)
            promise(left >= .zero && left <= window, "remembered for \(left)")
        }
        memory.restore(request, now: .now, unixNow: SteadyTime.unixNanoseconds)
    }
    promise(memory.counts.accepted <= bytes.count / AcceptedRequest.size, "more requests than the file has")
    guard bytes.first.map({ $0 & 15 == 0 }) == true else { return }
    must { () throws(SystemError) in try journal.start() }
    journal.stop()
}
