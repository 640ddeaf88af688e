import LinuxSystem
import PluginHost
import Synchronization

/// What an instance's thread knows of the descriptors that its plugin watches (`gw.loop/1`).
struct DescriptorWait {
    let instance: PluginInstance
    let thread: DeliveryThread
    /// Whether ``Receiver/wake()`` wakes the thread where it waits for descriptors.
    private var isKnown = false
    private var steps = 0

    init(_ instance: PluginInstance, _ thread: DeliveryThread) { (self.instance, self.thread) = (instance, thread) }

    /// How many steps an instance's thread does between two looks at its descriptors, which cost a system call each.
    private static let stepsBetweenLooks = 8

    /// Notes that a step follows.
    ///
    /// - Returns: whether it is time to look at the descriptors, which have their turn beside profiles that come without a pause.
    mutating func stepFollows(at receiver: Receiver) -> Bool {
        if !isKnown { receiver.watching.withLock { $0.append(instance) } }
        isKnown = true
        steps += 1
        return steps % Self.stepsBetweenLooks == 0
    }

    func end(at receiver: Receiver) {
        if isKnown { receiver.watching.withLock { $0.removeAll { $0 === instance } } }
    }
}

extension Receiver {
    /// Waits for the next step of an instance's thread, and makes the calls for its descriptors meanwhile.
    func nextStep(_ waiting: inout DescriptorWait) -> Step {
        let (instance, number) = (waiting.instance, waiting.thread.number)
        guard instance.watchesDescriptors else { return state.wait { $0.takeStep(of: number, now: .now) } }
        if waiting.stepFollows(at: self), instance.wait(until: MonotonicTime(nanoseconds: 0)) { callReady(instance, waiting.thread) }
        while true {
            switch state.withLock({ $0.takeStep(of: number, now: .now) }) {
            case .done(let step): return step
            case .again(let time): if instance.wait(until: time) { callReady(instance, waiting.thread) }
            }
        }
    }

    private func callReady(_ instance: PluginInstance, _ thread: DeliveryThread) {
        let isAllowed = state.withLock { $0.instances[thread.number]?.readyBegan(.now) }
        if isAllowed == true { thread.during(.ready) { instance.callReady() } }
    }

    /// Wakes the threads that wait for the state to change.
    func wake() {
        state.signal()
        watching.withLock { $0.forEach { $0.wake() } }
    }
}
