import Testing

@testable import Gateway
@testable import TestSupport

@Suite("The package that a new plugin in Swift depends on")
struct GatewayPackageTests {
    @Test("It is found above the folder of the program, and only there")
    func above() throws {
        let folder = try TestFolder()
        let program = try folder.folder("gateway/.build/release")
        #expect(GatewayPackage.folder(above: program) == nil)
        try folder.write("Package.swift", "let package = Package(name: \"another\")")
        #expect(GatewayPackage.folder(above: program) == nil)
        try folder.write("gateway/Package.swift", "let package = Package(\n    name: \"profile-gateway\",\n)")
        #expect(GatewayPackage.folder(above: program) == folder.path("gateway"))
        #expect(GatewayPackage.folder(above: folder.path) == nil)
        #expect(GatewayPackage.folder(above: Project.root) == Project.root)
    }

    @Test("The dependency is an expression of Swift, whatever the path is")
    func dependency() throws {
        let folder = try TestFolder()
        let place = try folder.folder(#"with "quotes" and \(back)"#)
        #expect(GatewayPackage.dependency(on: place) == nil)
        try folder.write(#"with "quotes" and \(back)/Package.swift"#, "let package = Package(name: \"profile-gateway\")")
        let path = #"\#(folder.path)/with \"quotes\" and \\(back)"#
        #expect(GatewayPackage.dependency(on: place) == ".package(name: \"profile-gateway\", path: \"\(path)\")")
        let url = "https://example.org/profile-gateway.git"
        #expect(GatewayPackage.dependency(on: url) == ".package(url: \"\(url)\", branch: \"main\")")
    }

    @Test(
        "A plugin's name gives those of variables and types",
        arguments: [("my-sink", "my_sink", "MySink"), ("a", "a", "A"), ("s3-v2-", "s3_v2_", "S3V2"), ("x--1y", "x__1y", "X1y")])
    func names(name: String, identifier: String, type: String) throws {
        let made = try #require(PluginProjectName(name))
        #expect(made.identifier == identifier && made.type == type)
    }
}
