import CPageAssets
import HTTPServer

/// The files that the page consists of, which are in the program.
enum PageAssets {
    /// The answer with a file; nil when there is none of this name.
    static func answer(_ name: Substring) -> Response? {
        var number = 0
        while let asset = unsafe page_asset_at(number)?.pointee {
            if unsafe String(cString: asset.name) == name {
                let bytes = unsafe Array(UnsafeBufferPointer(start: asset.bytes, count: asset.count))
                return Response(status: 200, headers: PageFrame.headers(unsafe String(cString: asset.type)), body: bytes)
            }
            number += 1
        }
        return nil
    }
}
