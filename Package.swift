// swift-tools-version: 6.3
import PackageDescription

let asyncSettings: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .strictMemorySafety(),
    .treatAllWarnings(as: .error),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
    // The library for regular expressions takes 1 MiB of memory. What is used of it otherwise is in LinuxSystem/TextSearch.swift.
    .unsafeFlags(["-Xfrontend", "-disable-implicit-string-processing-module-import"]),
]

/// The settings of modules without `async`: its library takes 0.8 MiB of memory, and a plugin that needs it brings it in.
let settings = asyncSettings + [.unsafeFlags(["-Xfrontend", "-disable-implicit-concurrency-module-import"])]

/// The settings of the gateway's own modules, which only the program uses: the optimizer may look into all of them.
let internalSettings: [SwiftSetting] = settings + [.unsafeFlags(["-cross-module-optimization"], .when(configuration: .release))]

/// Makes relocation tables read-only after loading (full RELRO); executables are position-independent by default.
let hardening: [LinkerSetting] = [.unsafeFlags(["-Xlinker", "-z", "-Xlinker", "relro", "-Xlinker", "-z", "-Xlinker", "now"])]

/// The hardening flags that Debian uses for C; Swift protects its stack by default.
#if arch(x86_64)
    let hardenedC: [CSetting] = [.unsafeFlags(["-fstack-protector-strong", "-fcf-protection=full"])]
#else
    let hardenedC: [CSetting] = [.unsafeFlags(["-fstack-protector-strong"])]
#endif

/// Tests use raw C and whole processes, so strict memory safety applies to the product only.
let testSettings: [SwiftSetting] = [.swiftLanguageMode(.v6), .treatAllWarnings(as: .error)]

/// A receiver plugin: a shared object whose only exported symbol is its entry.
func plugin(_ name: String, _ dependencies: [Target.Dependency] = []) -> Target {
    .target(
        name: name,
        dependencies: ["PluginKit", "PluginABI", "PluginLinking"] + dependencies,
        path: "Plugins/\(name)",
        exclude: ["README.md"],
        swiftSettings: settings)
}

let package = Package(
    name: "profile-gateway",
    products: [
        .executable(name: "gateway", targets: ["Gateway"]),
        .library(name: "HTTPWriter", type: .dynamic, targets: ["HTTPWriter"]),
        .library(name: "FileSink", type: .dynamic, targets: ["FileSink"]),
        .library(name: "StdoutSink", type: .dynamic, targets: ["StdoutSink"]),
        // The library that a plugin in a package of its own depends on.
        .library(name: "PluginKit", targets: ["PluginKit", "PluginKitAsync", "PluginABI", "ConfigJSON", "PluginLinking"]),
    ],
    targets: [
        .target(
            name: "PluginABI", path: "Sources/PluginABI", exclude: ["include/gw_plugin.map", "include/profile-gateway-plugin.pc"],
            cSettings: hardenedC),
        // The files that `gateway plugin new` writes, and with them the SDK, as bytes in the program.
        .target(name: "CPluginTemplates", path: "Sources/CPluginTemplates", cSettings: hardenedC),
        // The files of the admin listener's page, as bytes in the program.
        .target(name: "CPageAssets", path: "Sources/CPageAssets", exclude: ["web"], cSettings: hardenedC),
        .systemLibrary(name: "CLinux", path: "Sources/LinuxSystem/CLinux"),
        .target(
            name: "LinuxSystem", dependencies: ["CForkGuard", "CLinux"], path: "Sources/LinuxSystem", exclude: ["CLinux"],
            swiftSettings: settings),
        .target(
            name: "PushWire", dependencies: ["COpenSSL", "CZlib", "ConfigJSON", "LinuxSystem"], path: "Sources/PushWire",
            swiftSettings: settings),
        // Reads the bodies of profiles, for `gateway profile` and the page.
        .target(
            name: "ProfileReader", dependencies: ["ConfigJSON", "LinuxSystem", "PushWire"], path: "Sources/ProfileReader",
            swiftSettings: settings),
        .target(name: "ConfigJSON", dependencies: ["LinuxSystem"], path: "Sources/ConfigJSON", swiftSettings: settings),
        .target(name: "PEM", dependencies: ["ConfigJSON", "COpenSSL", "LinuxSystem"], path: "Sources/PEM", swiftSettings: settings),
        .target(
            name: "PluginKit", dependencies: ["PluginABI", "LinuxSystem", "ConfigJSON"], path: "Sources/PluginKit",
            swiftSettings: settings),
        .target(
            name: "PluginKitAsync", dependencies: ["PluginABI", "PluginKit", "LinuxSystem", "ConfigJSON"], path: "Sources/PluginKitAsync",
            swiftSettings: asyncSettings),
        // Gives its linker settings to every library that depends on it, here or in another package: hardening, and the entry as the only export.
        .target(
            name: "PluginLinking", path: "Sources/PluginLinking", swiftSettings: settings,
            linkerSettings: hardening + [
                .unsafeFlags(["-Xlinker", "--version-script=\(Context.packageDirectory)/Sources/PluginABI/include/gw_plugin.map"])
            ]),
        .target(
            name: "ProfileArchive", dependencies: ["PluginABI", "PluginKit", "LinuxSystem", "ConfigJSON", "COpenSSL"],
            path: "Sources/ProfileArchive", swiftSettings: settings),
        .target(name: "Telemetry", dependencies: ["ConfigJSON", "LinuxSystem"], swiftSettings: internalSettings),
        .target(
            name: "Profiles", dependencies: ["COpenSSL", "LinuxSystem", "PluginABI", "Telemetry"], swiftSettings: internalSettings),
        .target(
            name: "HTTPServer", dependencies: ["CCrypt", "COpenSSL", "ConfigJSON", "LinuxSystem", "PEM", "Telemetry"],
            swiftSettings: internalSettings, linkerSettings: [.linkedLibrary("ssl")]),
        .target(
            name: "SpoolStore",
            dependencies: ["ConfigJSON", "LinuxSystem", "PluginABI", "ProfileArchive", "Profiles", "Telemetry"],
            swiftSettings: internalSettings),
        .target(name: "CForkGuard", path: "Sources/CForkGuard", cSettings: hardenedC),
        .target(name: "CCrashGuard", path: "Sources/CCrashGuard", cSettings: hardenedC),
        .target(
            name: "PluginHost",
            dependencies: [
                "CCrashGuard", "COpenSSL", "ConfigJSON", "LinuxSystem", "PluginABI", "PluginKit", "ProfileArchive", "Profiles", "Telemetry",
            ],
            swiftSettings: internalSettings),
        .target(
            name: "Receivers",
            dependencies: [
                "ConfigJSON", "LinuxSystem", "PluginABI", "PluginHost", "PluginKit", "ProfileArchive", "Profiles", "SpoolStore",
                "Telemetry",
            ],
            swiftSettings: internalSettings),
        .target(
            name: "ProfileAPI",
            dependencies: [
                "COpenSSL", "ConfigJSON", "HTTPServer", "LinuxSystem", "PluginABI", "ProfileArchive", "Profiles", "PushWire", "Receivers",
                "SpoolStore", "Telemetry",
            ],
            swiftSettings: internalSettings),
        // Linked into the program only: a plugin has no command line of its own.
        .target(name: "CProcessStart", path: "Sources/CProcessStart", cSettings: hardenedC),
        .executableTarget(
            name: "Gateway",
            dependencies: [
                "CCrypt", "CCurl", "COpenSSL", "CPageAssets", "CPluginTemplates", "CProcessStart", "ConfigJSON", "HTTPServer",
                "LinuxSystem", "PEM", "PluginABI", "PluginHost", "PluginKit", "ProfileAPI", "ProfileArchive", "ProfileReader",
                "Profiles", "PushWire", "Receivers", "SpoolStore", "Telemetry",
            ],
            path: "Sources/Gateway",
            swiftSettings: internalSettings, linkerSettings: hardening),

        // zlib, OpenSSL and libxcrypt, as packaged by Debian.
        .systemLibrary(name: "CZlib", path: "Sources/CZlib", pkgConfig: "zlib", providers: [.apt(["zlib1g-dev"])]),
        .systemLibrary(
            name: "COpenSSL", path: "Sources/COpenSSL", pkgConfig: "libcrypto", providers: [.apt(["libssl-dev"])]),
        .systemLibrary(name: "CCrypt", path: "Sources/CCrypt", pkgConfig: "libcrypt", providers: [.apt(["libcrypt-dev"])]),
        // Opens libcurl, which is linked by nothing: only some commands and some endpoints need it.
        .target(name: "CCurl", path: "Sources/CCurl", cSettings: hardenedC),
        plugin("HTTPWriter", ["CCurl", "COpenSSL", "LinuxSystem", "PEM", "PushWire"]),
        plugin("FileSink", ["LinuxSystem", "ProfileArchive"]),
        plugin("StdoutSink", ["LinuxSystem"]),

        // Helpers that all test targets share; nothing else imports it.
        .target(
            name: "TestSupport", dependencies: ["PluginABI"], path: "Tests/TestSupport", exclude: ["Servers"],
            swiftSettings: testSettings),
        .testTarget(
            name: "GatewayTests",
            dependencies: [
                "ConfigJSON", "Gateway", "HTTPServer", "LinuxSystem", "PluginABI", "PluginHost", "ProfileAPI", "ProfileArchive",
                "ProfileReader",
                "Profiles", "PushWire", "Receivers", "SpoolStore", "Telemetry", "TestSupport",
            ],
            path: "Tests/GatewayTests",
            swiftSettings: testSettings),
        .testTarget(
            name: "PluginTests", dependencies: ["PluginABI", "TestSupport"], path: "Tests/PluginTests", exclude: ["Plugins"],
            swiftSettings: testSettings),
        .testTarget(
            name: "ScenarioTests", dependencies: ["TestSupport"], path: "Tests/ScenarioTests", swiftSettings: testSettings),
    ]
)
