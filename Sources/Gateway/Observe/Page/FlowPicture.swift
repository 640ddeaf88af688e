import LinuxSystem
import PluginHost
import Receivers

/// The picture of where profiles come in and where they go, drawn as SVG with classes alone: the page allows no styles in it.
struct FlowPicture {
    let overview: Overview

    private static let (width, boxWidth, boxHeight, step) = (760, 250, 46, 62)
    /// The most listeners and the most receivers that are drawn.
    private static let mostBoxes = 24

    var svg: HTML {
        let (listeners, receivers) = (overview.listeners.prefix(Self.mostBoxes), overview.receivers.prefix(Self.mostBoxes))
        let rows = max(listeners.count, receivers.count, 1)
        let height = rows * Self.step + 16
        var (lines, boxes): ([HTML], [HTML]) = ([], [])
        for (from, listener) in listeners.enumerated() {
            let y = Self.middle(from, of: listeners.count, in: height)
            for (to, receiver) in receivers.enumerated() where listener.forwardTo.contains(receiver.picture.name) {
                lines.append(
                    Self.line(y, Self.middle(to, of: receivers.count, in: height), receiver, isMoving: listener.rates.profiles > 0))
            }
            boxes.append(
                Self.box(
                    8, y, "ok", listener.name, "\(ReadableNumber.rate(listener.rates.profiles)) profiles/s"))
        }
        for (index, receiver) in receivers.enumerated() {
            let y = Self.middle(index, of: receivers.count, in: height)
            let queue = receiver.picture.queuedProfiles
            let rate = "\(ReadableNumber.rate(receiver.rate)) deliveries/s" + (queue > 0 ? ", \(ReadableNumber.count(queue)) queued" : "")
            boxes.append(Self.box(Self.width - Self.boxWidth - 8, y, Self.style(receiver), receiver.picture.name, rate))
        }
        let hidden = overview.listeners.count + overview.receivers.count - listeners.count - receivers.count
        let more: HTML = hidden > 0 ? "<p class=\"note\">\(hidden) more are in the tables below.</p>" : ""
        return """
            <svg class="flow" viewBox="0 0 \(Self.width) \(height)" role="img" aria-labelledby="flow-title flow-text">\
            <title id="flow-title">From listeners to receivers</title><desc id="flow-text">\(words)</desc>\(lines)\(boxes)</svg>\(more)
            """
    }

    /// The picture for those who do not see it.
    private var words: HTML {
        let sentences: [HTML] = overview.listeners.prefix(Self.mostBoxes).map { listener in
            let receivers = listener.forwardTo.prefix(Self.mostBoxes).joined(separator: ", ")
            return "\(listener.name) gets \(ReadableNumber.rate(listener.rates.profiles)) profiles a second, for \(receivers). "
        }
        let failing: [HTML] = overview.receivers.filter(\.isFailing).prefix(Self.mostBoxes).map { "\($0.picture.name) fails. " }
        return "\(sentences)\(failing)"
    }

    private static func middle(_ index: Int, of count: Int, in height: Int) -> Int { height * (2 * index + 1) / (2 * max(count, 1)) }

    private static func style(_ receiver: Overview.ReceiverRow) -> HTML {
        switch receiver.picture.health {
        case .ok: "ok"
        case .degraded: "degraded"
        case .failed: "failed"
        }
    }

    private static func line(_ from: Int, _ to: Int, _ receiver: Overview.ReceiverRow, isMoving: Bool) -> HTML {
        let (start, end) = (boxWidth + 8, width - boxWidth - 8)
        let half = (start + end) / 2
        return """
            <path class="edge \(style(receiver))\(isMoving ? " moving" : "" as HTML)" d="M\(start) \(from)C\(half) \(from) \(half) \(to) \(end) \(to)"/>
            """
    }

    private static func box(_ x: Int, _ middle: Int, _ style: HTML, _ name: String, _ rate: String) -> HTML {
        let shown = name.unicodeScalars.count > 28 ? String(name.unicodeScalars.prefix(27)) + "…" : name
        return """
            <g class="box \(style)"><rect x="\(x)" y="\(middle - boxHeight / 2)" width="\(boxWidth)" height="\(boxHeight)" rx="6"/>\
            <text x="\(x + 12)" y="\(middle - 4)">\(shown)</text>\
            <text class="rate" x="\(x + 12)" y="\(middle + 14)">\(rate)</text></g>
            """
    }
}
