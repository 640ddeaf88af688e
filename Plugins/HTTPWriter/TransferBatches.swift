import LinuxSystem
import PluginKit

/// Pushes that share a request.
extension TransferEngine {
    /// What waits for one endpoint: who, and with which request.
    typealias Waiting = (item: DispatchProgress, request: UpstreamRequest)

    /// How many parts of a failed batch are under way at a time, so that one which fails for all of them is noticed soon.
    private static let openParts = 4

    /// Has a Push wait for others, where they may share a request.
    ///
    /// - Returns: false when it must go alone.
    func joinBatch(_ waiting: Waiting, _ index: Int) -> Bool {
        let endpoint = endpoints[index]
        guard config.batch != nil, waiting.request.message != nil, !endpoint.isDown, !endpoint.suspects(waiting.item.dispatch) else {
            return false
        }
        waiting.item.began()
        batches[index].append(waiting)
        return true
    }

    /// Sends what waits for endpoints that have no request under way: what comes during one goes out together after it.
    func sendBatches() {
        guard let limits = config.batch else { return }
        for index in endpoints.indices {
            sendParts(index)
            while let first = batches[index].first, !isPushing(index) {
                var bytes = 0
                // A probe is one profile.
                let most = endpoints[index].isDown ? 1 : limits.maximumProfiles
                let batch = batches[index].prefix(most).prefix { next in
                    bytes += next.request.messageSize
                    // One always fits, however large it is.
                    return next.item === first.item || bytes <= limits.maximumBytes && next.request.goesWith(first.request)
                }
                batches[index].removeFirst(batch.count)
                send(Array(batch), index, holdsBatches: true)
            }
        }
    }

    private func isPushing(_ index: Int) -> Bool {
        active.values.contains { $0.endpoint == index && $0.request?.holdsBatches == true }
    }

    private func send(_ batch: [Waiting], _ index: Int, holdsBatches: Bool) {
        do throws(UpstreamRequest.Refusal) {
            var request = batch.count == 1 ? batch[0].request : try UpstreamRequest(joining: batch.map(\.request))
            request.holdsBatches = holdsBatches
            begin(index, batch.map(\.item), request, .now)
        } catch { tell(batch.map(\.item), .retry(error.reason, after: .zero, httpStatus: 0), index) }
        end(batch)
    }

    private func end(_ batch: [Waiting]) {
        for (item, _) in batch {
            item.ended()
            finishIfComplete(item)
        }
    }

    // MARK: The parts of a failed batch

    /// Whether one profile of several may be why they failed together, so that each is sent by itself.
    ///
    /// Not while nothing passes: the destination would fail each of them, and be flooded. They go by themselves the next time.
    func splits(_ verdict: Verdict, _ count: Int, _ index: Int) -> Bool {
        switch verdict {
        case .rejected: count > 1
        case .retry(_, _, let status), .misanswered(_, let status): count > 1 && status != 0 && !endpoints[index].seemsAway
        case .delivered, .aborted: false
        }
    }

    /// Sends the profiles of a batch by themselves; they stay open until then.
    func split(_ items: [DispatchProgress], _ requests: [UpstreamRequest], _ index: Int) {
        parts[index] += zip(items, requests).map { ($0, $1) }
    }

    private func sendParts(_ index: Int) {
        while !parts[index].isEmpty, openParts(index) < Self.openParts {
            let part = parts[index].removeFirst()
            let endpoint = endpoints[index]
            if endpoint.seemsAway {
                // Without the batch's status, for nobody has judged this profile by itself.
                tell([part.item], .retry(endpoint.lastFailure, after: .zero, httpStatus: 0), index)
                end([part])
            } else {
                send([part], index, holdsBatches: false)
            }
        }
    }

    private func openParts(_ index: Int) -> Int {
        active.values.count { $0.endpoint == index && $0.request?.message != nil && $0.request?.holdsBatches == false }
    }

    /// Gives up what waits.
    func abortBatches() {
        for index in endpoints.indices {
            let waiting = batches[index] + parts[index]
            (batches[index], parts[index]) = ([], [])
            tell(waiting.map(\.item), .aborted, index)
            end(waiting)
        }
    }
}
