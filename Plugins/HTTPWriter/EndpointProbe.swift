import ConfigJSON
import LinuxSystem
import PluginABI
import PluginKit
import PushWire

/// One probe of all endpoints, for `gateway check --connect`: each gets a Push without a series. On the thread of the transfers only.
final class EndpointProbe {
    private let delivery: SharedDelivery
    private let host: GatewayHost
    private let began = MonotonicTime.now
    private let endpoints: Int
    private var open: Int
    private var refusers: [String] = []
    /// The transfers, kept because one must not be freed while it tells of its end.
    fileprivate var transfers: [Transfer] = []

    init(_ delivery: SharedDelivery, _ host: GatewayHost, endpoints: Int) {
        (self.delivery, self.host, self.endpoints, open) = (delivery, host, endpoints, endpoints)
    }

    /// Takes the verdict on one endpoint; after the last one, the probe is finished.
    fileprivate func ended(_ endpoint: EndpointConfig, _ verdict: Verdict) {
        let time = "\(MonotonicTime.now.since(began).inNanoseconds / 1_000_000) ms"
        if let failure = Self.failure(verdict, endpoint) {
            refusers.append(endpoint.name)
            host.log(.warning, "endpoint \(endpoint.name): \(failure) (\(time))")
        } else {
            host.log(.info, "endpoint \(endpoint.name): takes profiles (\(time))")
        }
        open -= 1
        guard open == 0 else { return }
        let reason = "\(refusers.count) of \(endpoints) endpoints would not take a profile: \(refusers.joined(separator: ", "))"
        delivery.finish(refusers.isEmpty ? .delivered : .retry(reason))
    }

    func abort() {
        for transfer in transfers where transfer.isActive {
            transfer.cancel()
            transfer.isActive = false
        }
        if open > 0 { delivery.finish(.aborted) }
    }

    /// Why an endpoint would not take a profile; nil when it would.
    private static func failure(_ verdict: Verdict, _ endpoint: EndpointConfig) -> String? {
        switch verdict {
        case .delivered: nil
        // Pyroscope's answer to a Push without a series, which it gives after the credentials.
        case .rejected(let reason, 400, _) where reason.contains("no profiles received"): nil
        // Pyroscope wants a tenant, which each profile brings.
        case .rejected(let reason, 401, _) where reason.contains("no org id") && endpoint.tenant == .pass: nil
        case .rejected(let reason, _, _), .misanswered(let reason, _), .retry(let reason, _, _): reason
        case .aborted: "aborted"
        }
    }
}

extension TransferEngine {
    /// Tries every endpoint without a profile, then finishes `delivery`.
    func probe(_ delivery: SharedDelivery) {
        let probe = EndpointProbe(delivery, host, endpoints: endpoints.count)
        currentProbe = probe
        for index in endpoints.indices { begin(probe, index) }
    }

    private func begin(_ probe: EndpointProbe, _ index: Int) {
        let (endpoint, now) = (endpoints[index], MonotonicTime.now)
        if let tokens = endpoint.tokens, tokens.current(now) == nil {
            do throws(Problem) {
                return try fetchToken(index, tokens) { [unowned self] failure in
                    guard let failure else { return begin(probe, index) }
                    probe.ended(endpoint.config, failure.isEmpty ? .aborted : .retry(failure, after: .zero, httpStatus: 0))
                }
            } catch { return probe.ended(endpoint.config, .retry("\(error)", after: .zero, httpStatus: 0)) }
        }
        if let obstacle = send(probe, index, now) { probe.ended(endpoint.config, .retry(obstacle, after: .zero, httpStatus: 0)) }
    }

    /// - Returns: why nothing is sent; nil when something is.
    private func send(_ probe: EndpointProbe, _ index: Int, _ now: MonotonicTime) -> String? {
        let endpoint = endpoints[index]
        guard let transfer = Transfer(endpoint, index, sockets: sockets) else { return Self.noMemory }
        probe.transfers.append(transfer)
        transfer.ended = { [unowned self, unowned transfer, unowned probe] in ended(transfer, of: probe) }
        do throws(UpstreamRequest.Refusal) {
            let request = try UpstreamRequest.withoutProfile()
            do throws(Transfer.Obstacle) { try transfer.begin(DispatchList(), request, to: endpoint, isProbe: false, now) } catch {
                switch error {
                case .problem(let problem): return "\(problem)"
                case .refusal(let refusal): return refusal.reason
                }
            }
        } catch { return error.reason }
        guard transfer.start(on: endpoint.connections, now) else { return Self.noMemory }
        transfer.isActive = true
        return nil
    }

    private func ended(_ transfer: Transfer, of probe: EndpointProbe) {
        let result = transfer.makeResult()
        let endpoint = transfer.destination
        if transfer.goesOn(result, hasRoom: false), transfer.start(on: endpoint.connections, .now) { return }
        transfer.isActive = false
        let verdict = transfer.judge(result, endpoint.secrets.known)
        transfer.release()
        probe.ended(endpoint.config, verdict)
    }
}
