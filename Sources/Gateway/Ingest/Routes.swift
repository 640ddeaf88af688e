import LinuxSystem

/// The service of a listener: decides on each request by its head, then answers it by its body.
protocol Routes: Sendable {
    /// Decides whether a request's body is wanted; called on the event loop, so it must not block.
    func admit(_ head: RequestHead) -> Admission
}

/// The decision on one request, made from its head alone.
enum Admission {
    case receive(Reception)
    case refuse(Response)
}

/// How a request's body is received and answered.
struct Reception {
    /// The most bytes the body may have.
    let limit: Int
    /// How long the answer may take, if the request says so; the listener's write timeout applies too.
    var timeLimit: Duration?
    /// The answer to a larger body; the argument is the body's size, if it is known.
    let tooLarge: (Int?) -> Response
    /// Builds an error in the form of the request's API, from a status and a message.
    let failure: @Sendable (Int, String) -> Response
    /// The senders whose memory the body takes.
    var senders: [BodySender] = []
    /// Counts this many more bytes of the body against the sender's rate; returns the refusal when they are too many.
    var charge: ((Int) -> Response?)?
    /// Called with each piece of the body as it arrives; nil when nothing needs them.
    var arrived: ((Span<UInt8>) -> Void)?
    /// Gives up a request whose answer is due later; true when nothing has come of the request yet, and nothing will.
    var cancel: () -> Bool = { false }
    /// Takes the body and returns the answer, or returns nil and sends the answer through the reply later.
    let answer: (consuming ByteBuffer, Reply) -> Response?
}

/// The means to answer one request later; from any thread, and also after its connection has closed.
struct Reply: Sendable {
    let loop: EventLoop
    let connection: ConnectionKey
    /// The number of the request on its connection; an answer to any other request is ignored.
    let request: UInt32
    /// A function that every response passes first; it returns nil when it sends the response itself, later.
    var gate: (@Sendable (Response) -> Response?)?

    /// Passes an immediate response, if there is one, through `gate`; returns what is to be sent at once.
    func passing(_ response: Response?) -> Response? {
        guard let response, let gate else { return response }
        return gate(response)
    }

    func send(_ response: Response) {
        guard let response = passing(response) else { return }
        loop.post { table in table.reply(connection, request: request, response) }
    }
}
