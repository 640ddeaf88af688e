import LinuxSystem
import PluginKit

/// Sends several profiles in one Push request.
extension TransferEngine {
    /// How many parts of a failed batch are sent at a time; a few, so that a failure common to all of them is noticed soon.
    private static let openParts = 4

    /// Queues a Push for the endpoint's next batch, if batches are configured.
    ///
    /// - Returns: false when it must be sent alone.
    func joinBatch(_ item: Dispatch, _ index: Int) -> Bool {
        let endpoint = endpoints[index]
        guard config.batch != nil, item.request.message != nil, !endpoint.isDown, !endpoint.suspects(item) else { return false }
        item.began()
        batches[index].append(item)
        return true
    }

    /// Sends the queued profiles of each endpoint that has no batch under way; profiles that arrive during a request go together in
    /// the next.
    func sendBatches() {
        guard let limits = config.batch else { return }
        for index in endpoints.indices {
            sendParts(index)
            while let first = batches[index].first, !isPushing(index) {
                var bytes = 0
                // An endpoint that is down gets a single profile as its probe.
                let most = endpoints[index].isDown ? 1 : limits.maximumProfiles
                let batch = batches[index].prefix(most).prefix { next in
                    bytes += next.request.messageSize
                    // The first profile is always taken, even if it is larger than the limit.
                    return next === first || bytes <= limits.maximumBytes && next.request.goesWith(first.request)
                }
                batches[index].removeFirst(batch.count)
                send(Array(batch), index, holdsBatches: true)
            }
        }
    }

    private func isPushing(_ index: Int) -> Bool {
        active.contains { $0.endpoint == index && $0.holdsBatches }
    }

    private func send(_ batch: [Dispatch], _ index: Int, holdsBatches: Bool) {
        do throws(UpstreamRequest.Refusal) {
            let request = batch.count == 1 ? batch[0].request : try UpstreamRequest.joining(batch.map(\.request))
            begin(index, DispatchList(batch), request, .now, holdsBatches: holdsBatches)
        } catch { tell(batch, .retry(error.reason, after: .zero, httpStatus: 0), index) }
        end(batch)
    }

    private func end(_ batch: [Dispatch]) {
        for item in batch {
            item.ended()
            finishIfComplete(item)
        }
    }

    // MARK: Parts of a failed batch

    /// Whether a batch that failed is sent again as single profiles, because one of them may be the reason.
    ///
    /// A retry is not split while nothing gets through: the endpoint would fail each profile and be flooded. The profiles are sent
    /// alone in the next attempt.
    func splits(_ verdict: Verdict, _ count: Int, _ index: Int) -> Bool {
        switch verdict {
        case .rejected: count > 1
        case .retry(_, _, let status), .misanswered(_, let status): count > 1 && status != 0 && !endpoints[index].seemsAway
        case .delivered, .aborted: false
        }
    }

    private func sendParts(_ index: Int) {
        while !parts[index].isEmpty, openParts(index) < Self.openParts {
            let part = parts[index].removeFirst()
            let endpoint = endpoints[index]
            if endpoint.seemsAway {
                // The batch's status is left out, because the endpoint has not judged this profile alone.
                tell([part], .retry(endpoint.lastFailure, after: .zero, httpStatus: 0), index)
                end([part])
            } else {
                send([part], index, holdsBatches: false)
            }
        }
    }

    private func openParts(_ index: Int) -> Int {
        active.count { $0.endpoint == index && $0.request?.message != nil && !$0.holdsBatches }
    }

    /// Aborts the queued profiles.
    func abortBatches() {
        for index in endpoints.indices {
            let waiting = batches[index] + parts[index]
            (batches[index], parts[index]) = ([], [])
            tell(waiting, .aborted, index)
            end(waiting)
        }
    }
}
