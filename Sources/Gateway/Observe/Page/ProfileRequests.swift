import HTTPServer
import LinuxSystem
import Receivers

/// The requests for pages of profiles. Profiles are read one at a time on a thread of its own, because reading takes up to seconds.
final class ProfileRequests: Sendable {
    /// A request for a page has no body; a small one that a client sends anyway is read and ignored.
    private static let bodyLimit = 4096

    private struct Job: Sendable {
        let page: ProfilePage
        let reply: Reply
    }

    private let worker = Worker<Job>("profile-reader", priority: .nice(10))
    /// The requests that wait for the thread, with the one that it serves.
    private let places = Places(8)

    /// Decides on `/profiles/…`.
    func admit(_ rest: Substring, _ query: QueryString, _ recent: FanOut.Recent) -> Admission {
        let digits = rest.prefix { $0.isASCII && $0.isNumber }
        guard let sequence = UInt64(digits), let view = ProfilePage.View(rest.dropFirst(digits.count)) else {
            return .refuse(PageFrame.problem(404, title: "No such page", "There is no page of this name."))
        }
        guard let entry = recent[sequence] else {
            return .refuse(
                PageFrame.problem(404, title: "No such profile", "Only the last profiles are kept, and this one is not among them."))
        }
        let page = ProfilePage(entry: entry, view: view, sampleType: query.text("sample_type").flatMap { Int($0) })
        if let response = page.answerWithoutReading { return .refuse(response) }
        return .receive(Request(self, page))
    }

    private final class Request: RequestHandler {
        let bodyLimit = ProfileRequests.bodyLimit
        private let requests: ProfileRequests
        private let page: ProfilePage

        init(_ requests: ProfileRequests, _ page: ProfilePage) { (self.requests, self.page) = (requests, page) }

        func tooLarge(_ size: Int?) -> Response { .error(413, "a page takes no body") }
        func answer(_ body: consuming ByteBuffer, _ reply: Reply) { requests.read(page, reply) }
        func giveUp(_ reason: GiveUpReason) -> Response? { reason == .timeout ? .error(504, "reading the profile takes long") : nil }
    }

    private func read(_ page: ProfilePage, _ reply: Reply) {
        guard places.take() else { return reply.send(.error(503, "\(places.most) other profiles wait to be read")) }
        do throws(SystemError) {
            try worker.submit(Job(page: page, reply: reply)) { [places] jobs in
                for job in jobs {
                    job.reply.send(job.page.answer())
                    places.giveBack()
                }
            }
        } catch {
            places.giveBack()
            reply.send(.error(503, "\(error)"))
        }
    }

    /// Ends the thread; what it still reads at `deadline` is given up with the process.
    func stop(until deadline: MonotonicTime) {
        for job in worker.takeBack() { job.reply.send(.error(503, "the gateway is shutting down")) }
        worker.stop(until: deadline)
    }
}
