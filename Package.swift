// swift-tools-version: 6.3
import PackageDescription

let settings: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .strictMemorySafety(),
    .treatAllWarnings(as: .error),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
]

/// No table of pointers is writable once a program or a plugin is loaded; it is position-independent by default.
let hardening: [LinkerSetting] = [.unsafeFlags(["-Xlinker", "-z", "-Xlinker", "relro", "-Xlinker", "-z", "-Xlinker", "now"])]

/// What Debian builds its C with; Swift protects its stack by default.
#if arch(x86_64)
    let hardenedC: [CSetting] = [.unsafeFlags(["-fstack-protector-strong", "-fcf-protection=full"])]
#else
    let hardenedC: [CSetting] = [.unsafeFlags(["-fstack-protector-strong"])]
#endif

/// Tests drive raw C and whole processes; what they are strict about is the product.
let testSettings: [SwiftSetting] = [.swiftLanguageMode(.v6), .treatAllWarnings(as: .error)]

/// A receiver plugin: a shared object whose only exported symbol is its entry.
func plugin(_ name: String, _ dependencies: [Target.Dependency] = [], links: [LinkerSetting] = []) -> Target {
    .target(
        name: name,
        dependencies: ["PluginKit", "PluginABI"] + dependencies,
        path: "Plugins/\(name)",
        exclude: ["README.md"],
        swiftSettings: settings,
        linkerSettings: links + hardening + [
            .unsafeFlags(["-Xlinker", "--version-script=\(Context.packageDirectory)/Plugins/exports.map"])
        ])
}

let package = Package(
    name: "profile-gateway",
    products: [
        .executable(name: "gateway", targets: ["Gateway"]),
        .library(name: "HTTPWriter", type: .dynamic, targets: ["HTTPWriter"]),
        .library(name: "FileSink", type: .dynamic, targets: ["FileSink"]),
        .library(name: "StdoutSink", type: .dynamic, targets: ["StdoutSink"]),
    ],
    targets: [
        .target(name: "PluginABI", path: "Sources/PluginABI", cSettings: hardenedC),
        .systemLibrary(name: "CLinux", path: "Sources/LinuxSystem/CLinux"),
        .target(
            name: "LinuxSystem", dependencies: ["CLinux"], path: "Sources/LinuxSystem", exclude: ["CLinux"],
            swiftSettings: settings),
        .target(
            name: "PushWire", dependencies: ["COpenSSL", "CZlib", "ConfigJSON", "LinuxSystem"], path: "Sources/PushWire",
            swiftSettings: settings),
        .target(name: "ConfigJSON", dependencies: ["LinuxSystem"], path: "Sources/ConfigJSON", swiftSettings: settings),
        .target(name: "PEM", dependencies: ["ConfigJSON", "COpenSSL", "LinuxSystem"], path: "Sources/PEM", swiftSettings: settings),
        .target(
            name: "PluginKit", dependencies: ["PluginABI", "LinuxSystem", "ConfigJSON"], path: "Sources/PluginKit",
            swiftSettings: settings),
        .target(
            name: "ProfileArchive", dependencies: ["PluginABI", "PluginKit", "LinuxSystem", "ConfigJSON", "COpenSSL"],
            path: "Sources/ProfileArchive", swiftSettings: settings),
        // In the program alone: a plugin is not what was started.
        .target(name: "CProcessStart", path: "Sources/CProcessStart", cSettings: hardenedC),
        .executableTarget(
            name: "Gateway",
            dependencies: [
                "PluginABI", "PluginKit", "ProfileArchive", "LinuxSystem", "ConfigJSON", "CCurl", "COpenSSL", "CCrypt", "CProcessStart",
                "PEM",
                "PushWire",
            ],
            path: "Sources/Gateway",
            swiftSettings: settings, linkerSettings: hardening + [.linkedLibrary("ssl")]),

        // zlib, libcurl, OpenSSL and libxcrypt, as Debian has them.
        .systemLibrary(name: "CZlib", path: "Sources/CZlib", pkgConfig: "zlib", providers: [.apt(["zlib1g-dev"])]),
        // Not linked by the module: the gateway opens libcurl only to send, and a plugin links it.
        .systemLibrary(name: "CCurl", path: "Sources/CCurl", providers: [.apt(["libcurl4-openssl-dev"])]),
        .systemLibrary(
            name: "COpenSSL", path: "Sources/COpenSSL", pkgConfig: "libcrypto", providers: [.apt(["libssl-dev"])]),
        .systemLibrary(name: "CCrypt", path: "Sources/CCrypt", pkgConfig: "libcrypt", providers: [.apt(["libcrypt-dev"])]),
        plugin("HTTPWriter", ["CCurl", "COpenSSL", "LinuxSystem", "PEM", "PushWire"], links: [.linkedLibrary("curl")]),
        plugin("FileSink", ["LinuxSystem", "ProfileArchive"]),
        plugin("StdoutSink", ["LinuxSystem"]),

        .testTarget(
            name: "GatewayTests", dependencies: ["Gateway", "ConfigJSON", "LinuxSystem", "PluginABI", "ProfileArchive", "PushWire"],
            path: "Tests/GatewayTests",
            swiftSettings: testSettings),
        .testTarget(
            name: "PluginTests", dependencies: ["PluginABI"], path: "Tests/PluginTests", exclude: ["Plugins"],
            swiftSettings: testSettings),
        .testTarget(
            name: "ScenarioTests", path: "Tests/ScenarioTests", exclude: ["Servers"], swiftSettings: testSettings),
    ]
)
