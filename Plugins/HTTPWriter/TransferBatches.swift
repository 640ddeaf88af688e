import LinuxSystem
import PluginKit

/// Pushes that share a request.
extension TransferEngine {
    /// Sends what waits for endpoints that have no request under way: what comes during one goes out together after it.
    func sendBatches() {
        guard let limits = config.batch else { return }
        for index in endpoints.indices {
            while let first = batches[index].first, !isPushing(index) {
                var bytes = 0
                let batch = batches[index].prefix(limits.maximumProfiles).prefix { next in
                    bytes += next.request.messageSize
                    // One always fits, however large it is.
                    return next.item === first.item || bytes <= limits.maximumBytes && next.request.goesWith(first.request)
                }
                batches[index].removeFirst(batch.count)
                send(batch.map(\.item), batch.map(\.request), index)
            }
        }
    }

    private func isPushing(_ index: Int) -> Bool {
        active.values.contains { $0.endpoint == index && $0.request?.message != nil }
    }

    func send(_ items: [DispatchProgress], _ requests: [UpstreamRequest], _ index: Int) {
        do throws(UpstreamRequest.Refusal) {
            begin(index, items, requests.count == 1 ? requests[0] : try UpstreamRequest(joining: requests), .now)
        } catch {
            for item in items {
                item.took(.retry(error.reason, after: .zero, httpStatus: 0), of: index, name: endpoints[index].config.name)
            }
        }
        for item in items {
            item.ended()
            finishIfComplete(item)
        }
    }

    /// Gives up what waits.
    func abortBatches() {
        for index in endpoints.indices {
            let waiting = batches[index]
            batches[index] = []
            for (item, _) in waiting {
                item.ended()
                tell([item], .aborted, index)
                finishIfComplete(item)
            }
        }
    }
}
