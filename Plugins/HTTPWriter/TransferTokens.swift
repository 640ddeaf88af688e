import ConfigJSON
import LinuxSystem
import PluginKit

/// Fetches the tokens of endpoints with OAuth 2.0.
extension TransferEngine {
    private static let noToken = "oauth2: libcurl refused a request"

    /// Begins the attempt when the endpoint's token arrives.
    func wait(
        for tokens: TokenSource, _ index: Int, _ items: DispatchList, _ request: UpstreamRequest, holdsBatches: Bool
    ) {
        for item in items { item.began() }
        do throws(Problem) {
            try fetchToken(index, tokens) { [unowned self] failure in
                for item in items { item.ended() }
                if let failure {
                    tell(items, failure.isEmpty ? .aborted : .retry(failure, after: .zero, httpStatus: 0), index)
                } else {
                    begin(index, items, request, .now, holdsBatches: holdsBatches)
                }
                for item in items { finishIfComplete(item) }
            }
        } catch {
            for item in items { item.ended() }
            tokenFailed("\(error)", index)
            tell(items, .retry("\(error)", after: .zero, httpStatus: 0), index)
        }
    }

    /// Has an endpoint's token fetched, and calls back as ``TokenSource/finish(_:)`` does.
    func fetchToken(_ index: Int, _ tokens: TokenSource, _ told: @escaping TokenSource.Waiter) throws(Problem) {
        guard let curl = try tokens.wait(told) else { return }
        let connections = endpoints[index].connections
        curl.ended = { [unowned tokens, unowned connections, unowned curl] result in
            if curl.isLost(result) { connections.retire(curl.generation) }
            if let again = tokens.take(result, .now), !connections.add(again, .now) { tokens.finish(Self.noToken) }
        }
        if !connections.add(curl, .now) { tokens.finish(Self.noToken) }
    }

    /// Counts a failed token request as an endpoint that cannot be reached.
    func tokenFailed(_ reason: String, _ index: Int) {
        let endpoint = endpoints[index]
        // While a request is the probe of an endpoint that is down, this is not.
        let isProbe = endpoint.isDown && !endpoint.isProbing
        endpoint.ended(.retry(reason, after: .zero, httpStatus: 0), DispatchList(), isProbe: isProbe, isReached: false, now: .now)
    }
}
