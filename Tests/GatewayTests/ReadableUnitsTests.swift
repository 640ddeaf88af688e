import Testing

@testable import Gateway
@testable import Telemetry

@Suite("Readable units")
struct ReadableUnitsTests {
    @Test(
        "A size is shown in its largest binary unit",
        arguments: [
            (0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1_300_000, "1.2 MiB"), (3 << 40, "3.0 TiB"), (9000 << 40, "9000.0 TiB"),
        ])
    func sizes(bytes: Int, text: String) { #expect(readableSize(bytes) == text) }

    @Test(
        "A time span is shown in its two largest units",
        arguments: [(0, "0s"), (-5, "0s"), (59, "59s"), (60, "1m"), (192, "3m12s"), (7_322, "2h2m"), (187_200, "2d4h")])
    func spans(seconds: Int, text: String) { #expect(readableSpan(nanoseconds: Int64(seconds) * 1_000_000_000) == text) }

    @Test("A column is as wide as its widest cell, and no line ends in blanks")
    func table() {
        var table = AlignedTable(["NAME", "N", ""])
        table.add(["a", "100", "note"])
        table.add(["longer", "1", ""])
        #expect(table.lines == ["NAME    N", "a       100  note", "longer  1"])
    }
}
