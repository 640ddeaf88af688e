import LinuxSystem
import PushWire

/// A client that sends the requests of one transfer, one after another; on the thread of the transfers only.
///
/// There are two: ``PlainExchange`` speaks HTTP/1.1 without TLS, and ``CurlLane`` is libcurl for everything else. Whoever uses a lane
/// does not know which it is.
protocol Lane: AnyObject {
    /// Called when the request has ended, after the lane has let go of it; ``makeResult()`` tells how.
    var ended: () -> Void { get set }
    /// How the last request ended.
    func makeResult() -> LaneResult
    /// The cost of the last request.
    var cost: LaneCost { get }
    /// The generation of connections that the request uses, or used last.
    var generation: ConnectionGeneration? { get }

    /// Prepares a request; its body must stay valid until it has ended.
    func prepare(_ request: borrowing LaneRequest) throws(WrittenHead.Refusal)

    /// Gives the prepared request to the current generation of connections.
    ///
    /// - Returns: false when it cannot be sent for lack of memory.
    func start(on connections: EndpointConnections, _ now: MonotonicTime) -> Bool

    /// Prepares to send the same request again within the same time, when it failed for a reason that is not the server's.
    ///
    /// - Parameter hasRoom: true when a connection could not be opened for lack of descriptors, and some have since been freed.
    /// - Returns: true when it must be started again.
    func repeats(hasRoom: Bool) -> Bool

    /// Ends the request without telling.
    func cancel()
}

/// A request as a lane is given it.
@safe struct LaneRequest: ~Copyable {
    let request: UpstreamRequest
    /// The whole URL of a redirect; nil for the request's own target, which goes after the path of the endpoint's URL.
    var elsewhere: String?
    /// The headers that are sent instead of the request's own, because the config has some of those; nil when it has none.
    var headers: [UpstreamRequest.Header]?
    /// The headers that the endpoint needs beside these, in the spelling in which they are sent.
    var added: [UpstreamRequest.Header]
    var body: UnsafeRawBufferPointer
    /// The time at which it ends without an answer.
    var deadline: MonotonicTime
    /// Whether credentials, headers of the config and the client certificate may be sent there.
    var isTrusted = true
}

/// How a request ended.
struct LaneResult: ~Copyable {
    /// The status of the answer; 0 when none was received.
    var status = 0
    /// Whether the answer was received to its end.
    var isWhole = false
    /// The bound that the answer exceeded, in words; nil when none.
    var excess: String?
    /// Why there is no whole answer, in words.
    var failure = ""
    /// Whether a connection could not be opened for lack of descriptors.
    var isDenied = false
    /// Whether it failed without any answer, so that its connection and others of the same generation are suspect.
    var isLost = false
    /// The beginning of the body.
    var body: [UInt8] = []
    var contentType = ""
    /// The URL of a redirect; nil when there is none.
    var redirect: String?
    var retryAfter = Duration.zero
}

/// The cost of a request, for the metrics.
struct LaneCost {
    var nanoseconds: Int64 = 0
    var openedConnections = 0
    var wireBytes = 0
}
