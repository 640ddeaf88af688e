import COpenSSL
import Glibc
import LinuxSystem
import Telemetry

/// `gateway run`: serves until it is told to stop.
enum RunCommand {
    static func run(_ words: [String]) throws(UsageError) -> Int32 {
        let arguments = try Arguments(words, options: ["--config"])
        try arguments.refuseWords()
        do throws(SystemError) {
            let signals = try Signals([SIGTERM, SIGINT, SIGHUP])
            return serve(arguments.value("--config") ?? CheckCommand.defaultConfig, GatewayProcess(signals))
        } catch {
            printError("gateway: \(error)")
            return 1
        }
    }

    private static func serve(_ path: String, _ process: GatewayProcess) -> Int32 {
        raiseDescriptorLimit()
        returnLargeBlocks()
        // A thread that did not end in time may still use OpenSSL when the process exits.
        _ = OPENSSL_init_crypto(UInt64(OPENSSL_INIT_NO_ATEXIT), nil)
        let file = ConfigFile.read(path)
        guard file.problems.isEmpty else {
            for line in file.lines { Log.writeUnformatted(line) }
            return 1
        }
        Log.configure(file.config.log)
        for warning in file.warnings { Log.warning("config", ["warning": warning.line(in: path)]) }
        do throws(RunningGateway.StartError) {
            return try process.run(file.config, path: path)
        } catch {
            for message in error.messages { Log.error("cannot start", ["error": message]) }
            return 1
        }
    }
}
