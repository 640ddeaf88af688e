// swift-tools-version: 6.3
import PackageDescription

// A plugin elsewhere names the gateway by its address and version: .package(url: "https://…/profile-gateway", exact: "0.2.0")
let package = Package(
    name: "async-swift",
    products: [.library(name: "JournalSink", type: .dynamic, targets: ["JournalSink"])],
    dependencies: [.package(name: "profile-gateway", path: "../../..")],
    targets: [
        .target(name: "JournalSink", dependencies: [.product(name: "PluginKit", package: "profile-gateway")], path: "Sources")
    ]
)
