import LinuxSystem
import PluginKit
import Synchronization

/// Runs the transfers of an instance on a thread of its own, for a gateway that cannot watch descriptors. Thread-safe.
final class EngineThread: EngineRunner {
    private struct Inbox {
        var work: [Work] = []
        var isAborting = false
        var isClosing = false
    }

    private enum Work {
        case dispatch(Dispatch)
        case flush(SharedDelivery)
        case probe(SharedDelivery)
    }

    private let wakeup: Wakeup
    private let inbox = Mutex(Inbox())
    private let thread = Mutex<Thread?>(nil)

    init(_ config: WriterConfig, _ host: GatewayHost) throws(SystemError) {
        wakeup = try Wakeup()
        let engine = Mutex<TransferEngine?>(try TransferEngine(config, host, wakeup: wakeup.descriptor))
        try thread.withLock { (thread) throws(SystemError) in
            thread = try Thread("pyroscope.write") { [self] in
                if let engine = engine.withLock({ $0.take() }) { run(engine) }
            }
        }
    }

    func start(_ dispatch: Dispatch) { add(.dispatch(dispatch)) }

    func flush(_ flush: SharedDelivery) { add(.flush(flush)) }

    func probe(_ probe: SharedDelivery) { add(.probe(probe)) }

    private func add(_ work: Work) {
        let wasEmpty = inbox.withLock { inbox in
            inbox.work.append(work)
            return inbox.work.count == 1
        }
        if wasEmpty { wakeup.signal() }
    }

    func abort() {
        inbox.withLock { $0.isAborting = true }
        wakeup.signal()
    }

    func end() {
        inbox.withLock { $0.isClosing = true }
        wakeup.signal()
        thread.withLock { $0.take()?.join() }
    }

    private func run(_ engine: TransferEngine) {
        while true {
            guard engine.turn(until: engine.nextTurn) else {
                engine.sendBatches()
                continue
            }
            wakeup.clear()
            let new = inbox.withLock { inbox in
                defer { (inbox.work, inbox.isAborting) = ([], false) }
                return inbox
            }
            if new.isAborting { engine.abort() }
            for item in new.work {
                switch item {
                case .dispatch(let dispatch): new.isAborting ? dispatch.finish(.aborted) : engine.start(dispatch, .now)
                case .flush(let flush): engine.add(flush)
                case .probe(let probe): new.isAborting ? probe.finish(.aborted) : engine.probe(probe)
                }
            }
            engine.sendBatches()
            if new.isClosing { return }
        }
    }
}
