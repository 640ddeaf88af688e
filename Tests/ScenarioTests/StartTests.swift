import Glibc
import Testing

@testable import TestSupport

@Suite("Signals, arguments and environment at the start")
struct StartTests {
    private static let config = GatewayProcess.config(
        listeners: GatewayProcess.listener(["a"]), receivers: ["a": ReceiverEntry.archive()], more: GatewayProcess.admin)

    /// Starts the gateway with signals that are already pending.
    private func start(_ scenario: Scenario, waiting signals: Int32...) throws -> ChildProcess {
        let file = try scenario.write("{ \(Self.config) }", to: "gateway.json")
        // Pending signals survive exec.
        let script = """
            import os, signal, sys
            signals = [int(number) for number in sys.argv[1].split(",")]
            signal.pthread_sigmask(signal.SIG_BLOCK, signals)
            for number in signals: os.kill(os.getpid(), number)
            os.execv(sys.argv[2], sys.argv[2:])
            """
        let list = signals.map(String.init).joined(separator: ",")
        return try scenario.start(["python3", "-c", script, list, try Project.builtGateway(), "run", "--config", file])
    }

    @Test("A SIGHUP before the gateway is ready reloads it once it is")
    func earlyReload() throws {
        try Scenario.run { scenario in
            let process = try start(scenario, waiting: SIGHUP)
            try process.errors.wait(for: "config reloaded")
            let lines = process.errors.lines
            #expect(try #require(lines.firstIndex { $0.contains("msg=ready") }) < lines.firstIndex { $0.contains("config reloaded") } ?? 0)
            process.signal(SIGTERM)
            #expect(try process.waitForExit() == 0)
        }
    }

    @Test("A signal to stop before the gateway is ready ends it in order", arguments: [SIGTERM, SIGINT])
    func earlyStop(signal: Int32) throws {
        try Scenario.run { scenario in
            let process = try start(scenario, waiting: SIGHUP, signal)
            #expect(try process.waitForExit() == 0)
            #expect(process.errors.lines.last?.contains("msg=stopped") == true)
        }
    }

    @Test("run blocks signals from its first instruction on, and other commands end by them")
    func heldSignals() throws {
        try Scenario.run { scenario in
            let gateway = try Project.builtGateway()
            for (command, signal, status) in [
                ("run", SIGHUP, 1), ("run", SIGTERM, 1), ("run", SIGINT, 1), ("check", SIGTERM, 128 + SIGTERM),
            ] {
                let fifo = scenario.path("\(command)-\(signal)")
                try #require(mkfifo(fifo, 0o600) == 0)
                let process = try scenario.start([gateway, command, "--config", fifo])
                // The command blocks while it reads its config from this FIFO.
                let writer = try process.errors.poll(for: "a reader of \(fifo)") {
                    let writer = open(fifo, O_WRONLY | O_NONBLOCK)
                    return writer >= 0 ? writer : nil
                }
                process.signal(signal)
                if command == "run" { close(writer) }
                #expect(try process.waitForExit() == status, "\(command) and \(signal)")
            }
        }
    }

    /// A library whose constructor sets many environment variables.
    private static let setsVariable = """
        #include <stdlib.h>
        __attribute__((constructor)) static void set(void) { for (char name[] = "A_"; name[0] <= 'Z'; name[0]++) setenv(name, "value", 1); }
        """

    @Test("The arguments are correct although a preloaded library changes the environment")
    func preloaded() throws {
        try Scenario.run { scenario in
            let source = try scenario.write(Self.setsVariable, to: "set.c")
            let compiler = try scenario.start(["gcc", "-shared", "-fPIC", source, "-o", scenario.path("set.so")])
            #expect(try compiler.waitForExit() == 0)
            let process = try scenario.start(
                [try Project.builtGateway(), "check", "--config", "none there.json"], environment: ["LD_PRELOAD": scenario.path("set.so")])
            #expect(try process.waitForExit() == 1)
            #expect(process.output.lines.first?.hasPrefix("none there.json: cannot read the config") == true)
        }
    }

    // A sanitizer's runtime needs /proc.
    @Test("Without /proc the gateway knows its arguments and finds its plugins", .enabled(if: getuid() == 0 && !Project.isSanitized))
    func withoutProc() throws {
        try Scenario.run { scenario in
            let file = try scenario.write("{ \(Self.config) }", to: "gateway.json")
            let gateway = try Project.builtGateway()
            try #require(symlink(gateway, scenario.path("link")) == 0)
            for name in [gateway, scenario.path("link"), "./link"] {
                let script = "umount -l /proc && exec \"$0\" check --config \"$1\""
                let process = try scenario.start(["unshare", "-m", "sh", "-c", script, name, file])
                #expect(try process.waitForExit() == 0, "\(process.errors.lines)")
                #expect(process.output.lines == ["\(file): ok"])
            }
        }
    }

    // ThreadSanitizer writes a file of its own, which grows with the program.
    @Test(
        "A file size limit acts like a disk error: a larger profile is dropped, and others are stored",
        arguments: Project.isSanitized ? [8192] : [100, 300])
    func fileSizeLimit(kibibytes: Int) throws {
        try Scenario.run { scenario in
            let gateway = try GatewayProcess(
                scenario,
                GatewayProcess.config(
                    listeners: GatewayProcess.listener(["a"]), receivers: ["a": ReceiverEntry.archive()], more: "\"data_dir\": \"data\","),
                fileSize: kibibytes << 10)
            try gateway.send(5)
            try gateway.waitForMetrics("5 deliveries") { $0.delivered("a") == 5 }
            let connection = try RawConnection(gateway.port)
            _ = try connection.post("/ingest?name=app", String(repeating: "l", count: kibibytes << 11))
            try gateway.waitForMetrics("the large one dropped") { $0.dropped("a", "spool_full") == 1 }
            try gateway.send(5, from: 5)
            try gateway.log.wait(for: "the spool stores profiles again")
            try gateway.waitForMetrics("the others") { $0.delivered("a") == 10 }
            #expect(try gateway.stop() == 0)
        }
    }
}
