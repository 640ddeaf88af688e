import Synchronization

/// A delivery or flush that any thread may finish; the first outcome counts, and later ones have no effect.
public final class SharedDelivery: Sendable {
    /// The number of the attempt; 1 for the first.
    public let attempt: Int
    /// The `progress` of the last attempt's outcome; 0 at first.
    public let progress: UInt64
    private let delivery: Mutex<Delivery?>

    /// Takes over a delivery.
    public init(_ delivery: consuming Delivery) {
        (attempt, progress) = (delivery.attempt, delivery.progress)
        self.delivery = Mutex(delivery)
    }

    /// Ends the delivery with an outcome, unless it has been ended before.
    public func finish(_ outcome: Outcome) {
        if let delivery = delivery.withLock({ $0.take() }) { delivery.finish(outcome) }
    }
}
