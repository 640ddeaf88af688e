import LinuxSystem

/// What a listener's requests are for: decides on each head, then answers each body.
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
    /// How long the answer may take, where the request says so; the listener's write timeout holds too.
    var timeLimit: Duration?
    /// What a larger body is answered, by its size where that is known.
    let tooLarge: (Int?) -> Response
    /// An error as the request's API writes it, from a status and a message.
    let failure: @Sendable (Int, String) -> Response
    /// Whose memory the body takes.
    var senders: [BodySender] = []
    /// Counts so many more bytes of the body against the sender's rate; the refusal when they are too many.
    var charge: ((Int) -> Response?)?
    /// Told of the body piece by piece as it arrives, where somebody wants to know.
    var arrived: ((Span<UInt8>) -> Void)?
    /// Gives up a request whose answer is due later; true when nothing has come of it yet, and nothing will.
    var cancel: () -> Bool = { false }
    /// Takes the body and answers at once, or answers nil and sends the response through the reply later.
    let answer: (consuming ByteBuffer, Reply) -> Response?
}

/// The way back to one request that is answered later; from any thread, and after its connection is gone too.
struct Reply: Sendable {
    let loop: EventLoop
    let connection: ConnectionKey
    /// Which request of the connection; an answer to an earlier one is ignored.
    let request: UInt32
    /// What the response passes first: nil when it goes out later, by itself.
    var gate: (@Sendable (Response) -> Response?)?

    /// The response that may go out at once, of one that is there at once.
    func passing(_ response: Response?) -> Response? {
        guard let response, let gate else { return response }
        return gate(response)
    }

    func send(_ response: Response) {
        guard let response = passing(response) else { return }
        loop.post { table in table.reply(connection, request: request, response) }
    }
}
