import HTTPServer

/// The frame of every page: what a browser loads, and what it may do with it.
enum PageFrame {
    static let pagePath = "/"
    static let assets = "/assets/"

    /// Nothing is loaded from anywhere else, nothing in the page itself is run, and no other page shows it in a frame.
    private static let policy =
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; "
        + "form-action 'self'; frame-ancestors 'none'"

    /// The header fields of all that the page consists of.
    static func headers(_ type: String) -> [(name: String, value: String)] {
        [
            ("Content-Type", type), ("Content-Security-Policy", policy), ("X-Content-Type-Options", "nosniff"),
            ("Referrer-Policy", "no-referrer"), ("Cross-Origin-Opener-Policy", "same-origin"),
            ("Cross-Origin-Resource-Policy", "same-origin"), ("X-Frame-Options", "DENY"), ("Cache-Control", "no-store"),
        ]
    }

    /// An answer with a whole page.
    ///
    /// - Parameter isLive: whether the page gets updates.
    static func answer(_ status: Int = 200, title: HTML, isLive: Bool = false, _ content: HTML) -> Response {
        let page: HTML = """
            <!doctype html>
            <html lang="en">
            <head>
            <meta charset="utf-8">
            <title>\(title)</title>
            <meta name="viewport" content="width=device-width, initial-scale=1">
            <meta name="color-scheme" content="light dark">
            <link rel="icon" href="/assets/icon.svg" type="image/svg+xml">
            <link rel="stylesheet" href="/assets/page.css">
            <link rel="stylesheet" href="/assets/flame.css">
            <script type="module" src="/assets/page.js"></script>
            </head>
            <body\(isLive ? " data-events=\"/api/v1/events\"" : "" as HTML)>
            <a class="skip" href="#main">Skip to the content</a>
            <header>
            <a class="home" href="/">Profile Gateway</a>
            <span class="version">\(RunningGateway.version)</span>
            <span id="connection" class="connection" role="status"></span>
            </header>
            <main id="main" tabindex="-1">
            \(content)
            </main>
            </body>
            </html>

            """
        return Response(status: status, headers: headers("text/html; charset=utf-8"), body: Array(page.text.utf8))
    }

    /// A page that says why there is nothing else.
    static func problem(_ status: Int, title: HTML, _ text: String) -> Response {
        answer(status, title: title, "<h1>\(title)</h1><p>\(text)</p><p><a href=\"/\">Back to the overview</a></p>")
    }

    /// A section with a heading, whose content is replaced when an update comes.
    static func section(_ id: HTML, _ heading: HTML, _ content: HTML) -> HTML {
        """
        <section aria-labelledby="\(id)-heading">
        <h2 id="\(id)-heading">\(heading)</h2>
        <div id="\(id)" data-live>\(content)</div>
        </section>
        """
    }

    /// A table that can be scrolled sideways, also by keyboard. The first cell of each row is its heading.
    ///
    /// - Parameter numbers: the columns that hold numbers.
    static func table(_ caption: HTML, _ columns: [HTML], numbers: Set<HTML> = [], _ rows: [HTML]) -> HTML {
        let heads: [HTML] = columns.map { "<th scope=\"col\"\(numbers.contains($0) ? " class=\"number\"" : "" as HTML)>\($0)</th>" }
        return """
            <div class="scroll" tabindex="0" role="region" aria-label="\(caption)"><table><caption>\(caption)</caption>\
            <thead><tr>\(heads)</tr></thead><tbody>\(rows)</tbody></table></div>
            """
    }
}
