/// Requests in no order, each of which is added and removed in the same time, however many there are; on the thread of the transfers only.
struct ExchangeSet {
    private(set) var all: [PlainExchange] = []

    mutating func add(_ exchange: PlainExchange) {
        exchange.index = all.count
        all.append(exchange)
    }

    /// Removes a request that it holds.
    mutating func remove(_ exchange: PlainExchange) {
        let (index, last) = (exchange.index, all.removeLast())
        guard last !== exchange else { return }
        last.index = index
        all[index] = last
    }

    func contains(_ exchange: PlainExchange) -> Bool { exchange.index < all.count && all[exchange.index] === exchange }
}

/// Requests in an order, each of which is added and removed in the same time, however many there are; a request is in one queue at
/// most. On the thread of the transfers only.
final class ExchangeQueue {
    private(set) var first: PlainExchange?
    private var last: PlainExchange?
    private(set) var count = 0
    var isEmpty: Bool { count == 0 }

    func append(_ exchange: PlainExchange) {
        exchange.links.previous = last
        if let last { last.links.next = exchange } else { first = exchange }
        last = exchange
        count += 1
    }

    /// Adds a request before all others.
    func prepend(_ exchange: PlainExchange) {
        exchange.links.next = first
        if let first { first.links.previous = exchange } else { last = exchange }
        first = exchange
        count += 1
    }

    /// Removes and returns the first request, which waits for nothing then; nil when there is none.
    func takeFirst() -> PlainExchange? {
        guard let exchange = first else { return nil }
        remove(exchange)
        exchange.phase = .idle
        return exchange
    }

    /// Removes a request, which must be in this queue.
    func remove(_ exchange: PlainExchange) {
        let (previous, next) = (exchange.links.previous, exchange.links.next)
        exchange.links = (nil, nil)
        if let previous { previous.links.next = next } else { first = next }
        if let next { next.links.previous = previous } else { last = previous }
        count -= 1
    }
}
