// The bytes of Templates/ and of the SDK, taken in by the compiler: a file that changes makes this one be compiled again.
#include "CPluginTemplates.h"

#pragma clang diagnostic ignored "-Wc23-extensions"

typedef const unsigned char bytes[];

// The SDK, which the projects in several languages have a copy of.
static bytes plugin_abi = {
#embed "../PluginABI/include/PluginABI.h" suffix(, 0)
};
static bytes plugin_extensions = {
#embed "../PluginABI/include/PluginExtensions.h" suffix(, 0)
};
static bytes gw_hpp = {
#embed "../PluginABI/include/gw.hpp" suffix(, 0)
};
static bytes gw_plugin_map = {
#embed "../PluginABI/include/gw_plugin.map" suffix(, 0)
};

// What the projects in several languages share.
static bytes shared_gitignore = {
#embed "../../Templates/shared/.gitignore" suffix(, 0)
};
static bytes shared_config = {
#embed "../../Templates/shared/gateway.json" suffix(, 0)
};
static bytes shared_test = {
#embed "../../Templates/shared/test.sh" suffix(, 0)
};

// The table: language, path in the project, text.  The first file of a language is the plugin itself; a text that begins with #! is
// written as a program.
static const plugin_template templates[] = {
    {"c", "@NAME@.c", (bytes){
#embed "../../Templates/c/@NAME@.c" suffix(, 0)
    }},
    {"c", "Makefile", (bytes){
#embed "../../Templates/c/Makefile" suffix(, 0)
    }},
    {"c", "README.md", (bytes){
#embed "../../Templates/c/README.md" suffix(, 0)
    }},
    {"c", ".gitignore", shared_gitignore},
    {"c", "gateway.json", shared_config},
    {"c", "test.sh", shared_test},
    {"c", "sdk/PluginABI.h", plugin_abi},
    {"c", "sdk/PluginExtensions.h", plugin_extensions},
    {"c", "sdk/gw_plugin.map", gw_plugin_map},

    {"cpp", "@NAME@.cpp", (bytes){
#embed "../../Templates/cpp/@NAME@.cpp" suffix(, 0)
    }},
    {"cpp", "Makefile", (bytes){
#embed "../../Templates/cpp/Makefile" suffix(, 0)
    }},
    {"cpp", "README.md", (bytes){
#embed "../../Templates/cpp/README.md" suffix(, 0)
    }},
    {"cpp", ".gitignore", shared_gitignore},
    {"cpp", "gateway.json", shared_config},
    {"cpp", "test.sh", shared_test},
    {"cpp", "sdk/PluginABI.h", plugin_abi},
    {"cpp", "sdk/PluginExtensions.h", plugin_extensions},
    {"cpp", "sdk/gw.hpp", gw_hpp},
    {"cpp", "sdk/gw_plugin.map", gw_plugin_map},

    {"rust", "src/lib.rs", (bytes){
#embed "../../Templates/rust/src/lib.rs" suffix(, 0)
    }},
    {"rust", "Cargo.toml", (bytes){
#embed "../../Templates/rust/Cargo.toml" suffix(, 0)
    }},
    {"rust", "Makefile", (bytes){
#embed "../../Templates/rust/Makefile" suffix(, 0)
    }},
    {"rust", "README.md", (bytes){
#embed "../../Templates/rust/README.md" suffix(, 0)
    }},
    {"rust", ".gitignore", (bytes){
#embed "../../Templates/rust/.gitignore" suffix(, 0)
    }},
    {"rust", "gateway.json", shared_config},
    {"rust", "test.sh", shared_test},
    {"rust", "gateway-plugin/Cargo.toml", (bytes){
#embed "../../bindings/rust/Cargo.toml" suffix(, 0)
    }},
    {"rust", "gateway-plugin/rustfmt.toml", (bytes){
#embed "../../bindings/rust/rustfmt.toml" suffix(, 0)
    }},
    {"rust", "gateway-plugin/src/abi.rs", (bytes){
#embed "../../bindings/rust/src/abi.rs" suffix(, 0)
    }},
    {"rust", "gateway-plugin/src/call.rs", (bytes){
#embed "../../bindings/rust/src/call.rs" suffix(, 0)
    }},
    {"rust", "gateway-plugin/src/delivery.rs", (bytes){
#embed "../../bindings/rust/src/delivery.rs" suffix(, 0)
    }},
    {"rust", "gateway-plugin/src/host.rs", (bytes){
#embed "../../bindings/rust/src/host.rs" suffix(, 0)
    }},
    {"rust", "gateway-plugin/src/json.rs", (bytes){
#embed "../../bindings/rust/src/json.rs" suffix(, 0)
    }},
    {"rust", "gateway-plugin/src/lib.rs", (bytes){
#embed "../../bindings/rust/src/lib.rs" suffix(, 0)
    }},
    {"rust", "gateway-plugin/src/profile.rs", (bytes){
#embed "../../bindings/rust/src/profile.rs" suffix(, 0)
    }},
    {"rust", "gateway-plugin/src/tests.rs", (bytes){
#embed "../../bindings/rust/src/tests.rs" suffix(, 0)
    }},

    {"go", "main.go", (bytes){
#embed "../../Templates/go/main.go" suffix(, 0)
    }},
    {"go", "go.mod", (bytes){
#embed "../../Templates/go/go.mod" suffix(, 0)
    }},
    {"go", "Makefile", (bytes){
#embed "../../Templates/go/Makefile" suffix(, 0)
    }},
    {"go", "README.md", (bytes){
#embed "../../Templates/go/README.md" suffix(, 0)
    }},
    {"go", ".gitignore", (bytes){
#embed "../../Templates/go/.gitignore" suffix(, 0)
    }},
    {"go", "gateway.json", shared_config},
    {"go", "test.sh", shared_test},
    {"go", "gateway/delivery.go", (bytes){
#embed "../../bindings/go/delivery.go" suffix(, 0)
    }},
    {"go", "gateway/gateway_test.go", (bytes){
#embed "../../bindings/go/gateway_test.go" suffix(, 0)
    }},
    {"go", "gateway/host.go", (bytes){
#embed "../../bindings/go/host.go" suffix(, 0)
    }},
    {"go", "gateway/plugin.go", (bytes){
#embed "../../bindings/go/plugin.go" suffix(, 0)
    }},
    {"go", "gateway/profile.go", (bytes){
#embed "../../bindings/go/profile.go" suffix(, 0)
    }},
    {"go", "gateway/bridge.c", (bytes){
#embed "../../bindings/go/bridge.c" suffix(, 0)
    }},
    {"go", "gateway/bridge.h", (bytes){
#embed "../../bindings/go/bridge.h" suffix(, 0)
    }},
    {"go", "sdk/PluginABI.h", plugin_abi},
    {"go", "sdk/PluginExtensions.h", plugin_extensions},
    {"go", "sdk/gw_plugin.map", gw_plugin_map},

    {"swift", "Sources/@TYPE@.swift", (bytes){
#embed "../../Templates/swift/Sources/@TYPE@.swift" suffix(, 0)
    }},
    {"swift", "Package.swift", (bytes){
#embed "../../Templates/swift/Package.swift" suffix(, 0)
    }},
    {"swift", "Makefile", (bytes){
#embed "../../Templates/swift/Makefile" suffix(, 0)
    }},
    {"swift", "README.md", (bytes){
#embed "../../Templates/swift/README.md" suffix(, 0)
    }},
    {"swift", ".gitignore", (bytes){
#embed "../../Templates/swift/.gitignore" suffix(, 0)
    }},
    {"swift", "gateway.json", (bytes){
#embed "../../Templates/swift/gateway.json" suffix(, 0)
    }},
    {"swift", "test.sh", (bytes){
#embed "../../Templates/swift/test.sh" suffix(, 0)
    }},
};

const plugin_template *plugin_template_at(size_t number) {
    return number < sizeof templates / sizeof *templates ? &templates[number] : NULL;
}
