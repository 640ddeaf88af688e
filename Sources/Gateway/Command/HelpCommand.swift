import Telemetry

/// `gateway help`: the commands and how to use them.
enum HelpCommand {
    static let overview = """
        A gateway for continuous-profiling data.

        usage: gateway COMMAND [OPTIONS]

          run      serve until SIGTERM
          check    find every mistake in a config without running it
          reload   have a running gateway read its config again
          status   show how a running gateway and its receivers are
          send     post profiles to a server as an SDK would
          replay   send what an archive or a dead-letter folder holds again
          profile  show the functions or the stacks in the file of a profile
          queue    show, verify or drop what waits on disk
          plugins  show which plugins would be loaded, and from where
          plugin   write the project of a new plugin, or try whether one keeps the contract
          version  print the version
          help     explain a command: gateway help COMMAND
        """

    private static let headers = """
        HEADERS are sent with every request, any number of them:
          --header "Name: value"   others on this machine can read it
          --header-file FILE       a line each; empty lines and those that begin with # say nothing
          --token-file FILE        Authorization: Bearer, with what FILE holds
        """
    private static let proxies = "http_proxy, https_proxy and no_proxy hold for all servers but those of this machine."

    private static let pages = [
        "run": """
        usage: gateway run [--config FILE]

        Reads FILE (./gateway.json), opens its listeners and delivers what they receive to its receivers.
        SIGTERM or SIGINT stops: after shutdown_delay nothing new is accepted, and what is queued is delivered within
        shutdown_timeout.
        SIGHUP reads FILE again: see gateway help reload.
        The log goes to standard error. Exit 0 stopped, 1 could not start or a plugin did not end.
        """,
        "check": """
        usage: gateway check [--config FILE] [--connect]

        Reads FILE (./gateway.json) as run would, plugins included, and prints every problem, one a line:
        file:line:column: path: what is wrong. Exit 0 when run would start, 1 when not.

        With --connect, every endpoint is then looked up, connected to and asked with the configured credentials, without
        a profile, and in every folder a file is written and removed: a line each with its time. Exit 1 when one fails.
        """,
        "reload": """
        usage: gateway reload [--config FILE] [HEADERS]

        Asks the gateway at the admin address of FILE (./gateway.json) to read its config again, as SIGHUP does.
        What did not change goes on: sockets, connections, queues. A config with a mistake changes nothing; its problems
        are printed, one a line. Where admin has auth, a header brings the credentials; with tls, the certificate that
        FILE names is the one that is trusted. No proxy is used. Exit 0 reloaded, 1 refused or not reached.

        \(headers)
        """,
        "status": """
        usage: gateway status [--config FILE] [--json] [HEADERS]

        Asks the gateway at the admin address of FILE (./gateway.json) how it is, and prints its listeners, its receivers with their
        health, the reason for it and what is queued, the spool, and what came of the last reading of the config.
        With --json the gateway's page is printed as it is. HEADERS, tls and proxies are as in gateway help reload.
        Exit 0 when the gateway has answered, 1 when it was not reached or refused.

        \(headers)
        """,
        "send": """
        usage: gateway send FILE... --to URL --name NAME [--push] [--format FORMAT] [--tenant ID]
                            [--from TIME] [--until TIME] [HEADERS]

        Posts each FILE to URL/ingest, or with --push to the Push API, and prints the answer, a line a file.
        NAME is an application with labels: 'app{env=prod}'. FORMAT is pprof, jfr, folded, lines, speedscope, trie or
        tree, and is guessed when not given. TIME is what /ingest takes: Unix seconds, now-1h.
        Exit 0 when every answer was the 200 of a gateway or a Pyroscope, else 1.

        \(headers)
        \(proxies)
        """,
        "replay": """
        usage: gateway replay DIRECTORY --to URL [--tenant ID] [--remove] [--json] [HEADERS]

        Sends each profile in DIRECTORY, a FileSink archive, a dead-letter folder or a folder inside one, to URL as it first
        came, oldest first, and prints the answer, a line a profile, then a summary; with --json each line is an object.
        Sizes and SHA-256 are checked first. --remove deletes a profile's files once it was answered 200.
        Exit 0 when every answer was the 200 of a gateway or a Pyroscope, else 1: a damaged, missing or foreign file is
        named, and the rest goes on.

        \(headers)
        \(proxies)
        """,
        "profile": """
        usage: gateway profile top    FILE [--format FORMAT] [--sample-type NAME] [--limit N] [--json]
               gateway profile folded FILE [--format FORMAT] [--sample-type NAME]
               gateway profile graph  FILE [--format FORMAT] [--sample-type NAME]

        Reads one profile. FORMAT is pprof, folded, lines or speedscope, and is guessed when not given; JFR is not read.
        NAME is what is counted, such as cpu or inuse_space; without it, it is what the profile names, else the last that counts.
        top     prints N (20; 0 is all) functions: what each counts by itself, and with all that is called from it, as
                go tool pprof -top has it.
        folded  prints the stacks, one a line: functions from the outermost one on with semicolons between them, and the value.
        graph   prints JSON that a page can draw as a flame graph.
        Exit 0 done, 1 when the file cannot be read.
        """,
        "queue": """
        usage: gateway queue list   [--json]
               gateway queue verify [--json]
               gateway queue show   [--receiver NAME] [--limit N] [--json]
               gateway queue show   SEQUENCE [--output FILE] [--json]
               gateway queue drop   --receiver NAME (--all | SEQUENCE... | --older-than DURATION) [--yes] [--json]

        All take [--config FILE] (./gateway.json), which names the data_dir, or [--data-dir DIR] instead of it.
        list    what waits for each receiver, also for one that the config does not have any more.
        verify  reads everything on disk and prints each damage, a line each: file:offset: what, and for whom. Writes nothing.
        show    lists N (50; 0 is all) profiles that wait, oldest first, or all about one; --output writes its payload to FILE,
                FILE-0, FILE-1... where it has several, never over a file that is there.
        drop    takes profiles out of one receiver's queue for good, after asking; needs --yes where there is no terminal.
                The gateway must be stopped; the other commands may be used while it runs.
        Exit 0 done, 1 damage was found, or the thing asked for failed.
        """,
        "plugins": """
        usage: gateway plugins [--config FILE] [--json]

        Shows each plugin that FILE (./gateway.json) names: its name, version, file, SHA-256 and receivers.
        Exit 0 when all can be loaded, else 1.
        """,
        "plugin": """
        usage: gateway plugin new NAME --language LANGUAGE [--in FOLDER] [--gateway PATH|URL]
               gateway plugin check FILE.so [--config JSON] [--timeout DURATION] [--json]

        new     writes a small plugin that works into the new folder NAME below FOLDER (.), with how to build, test and run it.
                NAME takes lower-case letters, digits and hyphens, begins with a letter, and has at most 40 characters.
                LANGUAGE is \(PluginLanguage.names). A project in swift depends on the gateway's package, at PATH or URL;
                without --gateway it is that which this program was built of.
        check   tries the rules of the plugin interface on a plugin, each in a process of its own, and prints what was seen, a line
                a rule: pass, fail, or not tried. JSON is the plugin's config ({}). Made-up profiles are delivered to what it
                names. A step may take DURATION (10s), a rule three times that.
        Exit 0 done, 1 nothing was written, or a rule failed.
        """,
        "version": "usage: gateway version\n\nPrints the version.",
        "help": "usage: gateway help [COMMAND]\n\nExplains COMMAND, or lists all.",
    ]

    static func run(_ words: [String]) throws(UsageError) -> Int32 {
        guard let command = words.first else {
            print(overview)
            return 0
        }
        guard let page = pages[command] else { throw UsageError("no command \(quotedForPeople(command)); gateway help lists them") }
        print(page)
        return 0
    }
}

/// `gateway version`.
enum VersionCommand {
    static func run(_ words: [String]) throws(UsageError) -> Int32 {
        try Arguments(words).refuseWords()
        print("gateway \(RunningGateway.version)")
        return 0
    }
}
