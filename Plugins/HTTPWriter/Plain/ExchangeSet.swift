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
