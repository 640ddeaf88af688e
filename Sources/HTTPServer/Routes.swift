package import LinuxSystem

/// The service of a listener: decides on each request by its head, then answers it by its body.
package protocol Routes: Sendable {
    /// Decides whether a request's body is wanted; called on the event loop, so it must not block.
    func admit(_ head: RequestHead) -> Admission

    /// Whether a request is served without credentials; called on the event loop, like ``admit(_:)``.
    func isOpen(_ head: RequestHead) -> Bool
}

/// The decision on one request, made from its head alone.
package enum Admission {
    case receive(any RequestHandler)
    case refuse(Response)
}

/// Receives and answers one request; called on its connection's event loop alone, so nothing in it may block.
package protocol RequestHandler: AnyObject {
    /// The most bytes the body may have.
    var bodyLimit: Int { get }
    /// How long the answer may take, if the request says so; the listener's write timeout applies too.
    var timeLimit: Duration? { get }
    /// The senders whose memory the body takes.
    var senders: [BodySender] { get }

    /// The answer to a body that is too large.
    ///
    /// - Parameter size: the body's size, if it is known.
    func tooLarge(_ size: Int?) -> Response

    /// Called with each piece of the body as it arrives.
    ///
    /// - Returns: the refusal, when the sender must not send more now.
    func received(_ piece: Span<UInt8>) -> Response?

    /// Takes the whole body. The answer is sent through `reply`, before this returns or later, from any thread.
    func answer(_ body: consuming ByteBuffer, _ reply: Reply)

    /// Gives up a request whose body was taken and whose answer has not come.
    ///
    /// - Returns: the answer to send instead; nil when the request goes on, and its answer may still come.
    func giveUp(_ reason: GiveUpReason) -> Response?
}

extension RequestHandler {
    package var timeLimit: Duration? { nil }
    package var senders: [BodySender] { [] }
    package func received(_ piece: Span<UInt8>) -> Response? { nil }
}

/// Why a connection gives up the request whose answer it waits for.
package enum GiveUpReason: Equatable {
    /// The answer has not come in time. An answer is sent in any case.
    case timeout
    /// The listener ends, for the reason given.
    case listenerEnds(String)
    /// The connection has closed, and nobody can be answered any more.
    case disconnected
}

/// The only way to answer a request whose body was taken; usable from any thread, and also after its connection has closed.
package struct Reply: Sendable {
    private let loop: EventLoop
    package let connection: ConnectionKey
    /// The number of the request on its connection; an answer to any other request is ignored.
    private let request: UInt32
    /// A function that every response passes first; it returns nil when it sends the response itself, later.
    package var gate: (@Sendable (Response) -> Response?)?

    init(loop: EventLoop, connection: ConnectionKey, request: UInt32) {
        (self.loop, self.connection, self.request) = (loop, connection, request)
    }

    package func send(_ response: Response) {
        var response = response
        if let gate {
            guard let passed = gate(response) else { return }
            response = passed
        }
        loop.reply(response, to: connection, request: request)
    }

    /// Runs work on the thread of the request's event loop, soon.
    package func onLoop(_ work: @escaping @Sendable () -> Void) { loop.post { _ in work() } }
}
