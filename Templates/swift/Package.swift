// swift-tools-version: 6.3
import PackageDescription

let package = Package(
    name: "@NAME@",
    products: [.library(name: "@TYPE@", type: .dynamic, targets: ["@TYPE@"])],
    dependencies: [@PACKAGE@],
    targets: [
        // PluginKit links the library as a plugin should be: gw_plugin_v1 is all that it exports.
        .target(name: "@TYPE@", dependencies: [.product(name: "PluginKit", package: "profile-gateway")], path: "Sources")
    ]
)
