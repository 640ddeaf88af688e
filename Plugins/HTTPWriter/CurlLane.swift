import CCurl
import LinuxSystem
import PushWire

/// Sends the requests of one transfer with libcurl; on the thread of the transfers only.
final class CurlLane: Lane {
    var ended: () -> Void = {}
    private let curl: CurlHandle
    private let config: EndpointConfig
    private let files: TLSFiles
    private var code = CURLE_OK
    private var isRepeated = false

    /// - Returns: nil when libcurl has no memory for a handle.
    init?(_ config: EndpointConfig, _ files: TLSFiles, sockets: SocketWatcher) {
        guard
            let curl = CurlHandle(
                timeoutMilliseconds: config.timeoutMilliseconds, answerLimit: UpstreamAnswer.bodyLimit,
                keepsAddresses: config.maximumConnectionAge > .zero, sockets: sockets)
        else { return nil }
        (self.curl, self.config, self.files) = (curl, config, files)
        curl.setOptions(config.connection)
        curl.ended = { [unowned self] code in
            self.code = code
            ended()
        }
    }

    var generation: ConnectionGeneration? { curl.generation }

    // MARK: Request

    func prepare(_ request: borrowing LaneRequest) throws(WrittenHead.Refusal) {
        curl.setFiles(files)
        curl.prepare()
        curl.setTimeout(until: request.deadline)
        if isRepeated { curl.setFresh(false) }
        isRepeated = false
        if let elsewhere = request.elsewhere {
            curl.setTarget(of: elsewhere)
            if !request.isTrusted { curl.forgetCertificate() }
        } else {
            try curl.setTarget(request.request.target, of: config)
        }
        // Without this empty header, libcurl would wait for a 100 Continue before it sends a large body.
        let own = request.headers ?? request.request.headers
        try curl.setHeaders([("Expect", "")] + own + request.added + (request.isTrusted ? config.headers : []))
        unsafe curl.setBody(request.body)
    }

    func start(on connections: EndpointConnections, _ now: MonotonicTime) -> Bool { connections.add(curl, now) }

    func cancel() { curl.generation?.remove(curl) }

    /// This is done only when the server cannot have processed the request: it could not be sent, or libcurl has already retried
    /// it, as it does with requests that HTTP/2 returns (RFC 9113 §8.7), and found the same dying connection each time.
    func repeats(hasRoom: Bool) -> Bool {
        if hasRoom {
            curl.prepare()
            curl.goOnWithTimeout()
            return true
        }
        let isUnbegun = code == CURLE_SEND_ERROR || code != CURLE_OK && curl.words(for: code).hasPrefix("Connection died")
        guard isUnbegun, !isRepeated, curl.number(CURLINFO_NUM_CONNECTS) == 0, curl.status == 0 else { return false }
        isRepeated = true
        curl.prepare()
        curl.setFresh(true)
        return true
    }

    // MARK: Answer

    func makeResult() -> LaneResult {
        let isWhole = curl.isWhole(code)
        return LaneResult(
            status: curl.status, isWhole: isWhole, excess: curl.bounds.excess, failure: isWhole ? "" : curl.words(for: code),
            isDenied: code != CURLE_OK && curl.isDenied, isLost: curl.isLost(code), body: curl.answer,
            contentType: curl.text(CURLINFO_CONTENT_TYPE) ?? "", redirect: curl.text(CURLINFO_REDIRECT_URL),
            retryAfter: .seconds(max(0, curl.offset(CURLINFO_RETRY_AFTER))))
    }

    var cost: LaneCost {
        guard curl.isStarted else { return LaneCost() }
        // REQUEST_SIZE includes the body when libcurl sent it in one piece with the head.
        let wireBytes = max(curl.number(CURLINFO_REQUEST_SIZE), curl.offset(CURLINFO_SIZE_UPLOAD_T))
        return LaneCost(
            nanoseconds: Int64(curl.offset(CURLINFO_TOTAL_TIME_T)) * 1000, openedConnections: curl.number(CURLINFO_NUM_CONNECTS),
            wireBytes: wireBytes)
    }
}
