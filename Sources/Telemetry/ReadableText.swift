import ConfigJSON
import LinuxSystem

/// `text` for one line of a terminal: characters that could move the cursor or reverse the text are escaped.
package func printable(_ text: String) -> String {
    String(JSONValue.quoted(text).dropFirst().dropLast()).replacing("\\\"", with: "\"").replacing("\\\\", with: "\\")
}

/// `text` in quotes and escaped, for a message that a person reads; cut after 128 characters.
package func quotedForPeople(_ text: String) -> String {
    let scalars = text.unicodeScalars
    return scalars.count <= 128 ? JSONValue.quoted(text) : JSONValue.quoted(String(scalars.prefix(128)) + "…")
}

/// A size in readable units: `512 B`, `12.3 MiB`.
package func readableSize(_ bytes: Int) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"]
    var (scale, index) = (1, 0)
    while bytes / scale >= 1024, index < units.count - 1 { (scale, index) = (scale * 1024, index + 1) }
    if index == 0 { return "\(bytes) B" }
    let tenths = bytes / scale * 10 + bytes % scale * 10 / scale
    return "\(tenths / 10).\(tenths % 10) \(units[index])"
}

/// `1 profile`, `2 profiles`.
package func counted(_ count: Int, _ noun: String) -> String { "\(count) \(noun)\(count == 1 ? "" : "s")" }
