"""Bar and line charts as SVG. The same numbers give the same bytes, and the colors suit light and dark pages."""
from html import escape

# Each contender has a color of its own; the modes of the gateway share its color.
LIGHT = {"nginx": "#2e8b57", "envoy": "#8e5bb5", "go": "#0f8fb3", "c": "#8a8a8a", "gateway": "#d9541e"}
DARK = {"nginx": "#5cc98c", "envoy": "#c39be6", "go": "#4cc3e6", "c": "#b0b0b0", "gateway": "#ff8a57"}
WIDTH, ROW, NAME, VALUE = 860, 19, 208, 62


def style():
    def colors(of):
        return "".join(f".{key}{{fill:{color};stroke:{color}}}" for key, color in of.items())
    light = ("text{font:12px system-ui,sans-serif;fill:#222}.title{font-size:15px;font-weight:600}.head{font-weight:600}.note{fill:#666}"
             ".page{fill:#fff}.axis{stroke:#ccc}.spread{stroke:#222}" + colors(LIGHT))
    dark = "text{fill:#e6e6e6}.note{fill:#aaa}.page{fill:#0d1117}.axis{stroke:#444}.spread{stroke:#e6e6e6}" + colors(DARK)
    return f"<style>{light}@media (prefers-color-scheme:dark){{{dark}}}.line{{fill:none;stroke-width:2}}</style>"


def number(value):
    return f"{value:,.0f}" if value >= 1000 else f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def ceiling(value):
    """The next number of one digit and zeros, so that a quarter of it is short to write."""
    unit = 10 ** (len(str(int(value))) - 1) if value >= 1 else 1
    return unit * -(-value // unit)


def text(x, y, content, kind="", anchor="start"):
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{escape(content)}</text>'


def page(height, title, note, parts):
    head = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img">',
            f"<title>{escape(title)}</title>", style(), f'<rect class="page" width="{WIDTH}" height="{height}" rx="6"/>',
            text(16, 26, title, "title"), text(16, 44, note, "note")]
    return "\n".join(head + parts + ["</svg>"]) + "\n"


def bars(title, note, panels):
    """Panels beside each other, two in a row, each with a scale of its own. A panel is a heading and rows of (class, name, least, median, most)."""
    parts, y = [], 62
    for start in range(0, len(panels), 2):
        pair = panels[start:start + 2]
        for column, (heading, rows) in enumerate(pair):
            left = 16 + column * (WIDTH - 16) / 2
            room = (WIDTH - 16) / 2 - 16 - NAME - VALUE
            scale = room / max(row[4] for row in rows)
            parts.append(text(left, y + 14, heading, "head"))
            for index, (kind, name, least, median, most) in enumerate(rows):
                top = y + 24 + index * ROW
                x = left + NAME
                parts.append(text(x - 8, top + 11, name, anchor="end"))
                parts.append(f'<rect class="{kind}" x="{x:.1f}" y="{top}" width="{max(1, median * scale):.1f}" height="13" rx="2"/>')
                if most > least:
                    parts.append(f'<path class="spread" d="M{x + least * scale:.1f} {top + 6.5}H{x + most * scale:.1f}"/>')
                parts.append(text(x + most * scale + 6, top + 11, number(median)))
        y += 24 + max(len(rows) for _, rows in pair) * ROW + 14
    return page(y, title, note, parts)


def lines(title, note, below, xs, series):
    """One line for each of (class, name, values), over equal steps of xs; a value may be None."""
    left, right, top, bottom, height = 64, WIDTH - 150, 66, 316, 352
    most = ceiling(max(v for _, _, values in series for v in values if v is not None))
    step = (right - left) / max(1, len(xs) - 1)
    parts = []
    for part in range(5):
        y = bottom - (bottom - top) * part / 4
        parts += [f'<path class="axis" d="M{left} {y:.1f}H{right}"/>', text(left - 8, y + 4, f"{most * part / 4:,g}", "note", "end")]
    parts += [text(left + i * step, bottom + 18, str(x), "note", "middle") for i, x in enumerate(xs)]
    parts.append(text((left + right) / 2, bottom + 33, below, "note", "middle"))
    ends = []
    for kind, name, values in series:
        points = [(left + i * step, bottom - (bottom - top) * v / most) for i, v in enumerate(values) if v is not None]
        if not points:
            continue
        parts.append(f'<path class="line {kind}" d="M' + "L".join(f"{x:.1f} {y:.1f}" for x, y in points) + '"/>')
        parts += [f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="2.5"/>' for x, y in points]
        ends.append([points[-1][1], kind, name])
    # Names beside the ends of their lines, and never over each other.
    ends.sort()
    for index in range(1, len(ends)):
        ends[index][0] = max(ends[index][0], ends[index - 1][0] + 15)
    for y, kind, name in ends:
        parts += [f'<rect class="{kind}" x="{right + 10}" y="{y - 5:.1f}" width="9" height="9" rx="2"/>', text(right + 25, y + 4, name)]
    return page(height, title, note, parts)
