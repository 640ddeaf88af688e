// @NAME@: appends a line per profile to the file that the config's member "path" names.
#include <cerrno>
#include <cstdio>
#include <memory>
#include <string>
#include <system_error>

#include "gw.hpp"

namespace {

/// Texts come from the sender; a control character would break the line.
std::string printable(gw_slice slice) {
    std::string text(gw::text(slice));
    for (char &byte : text)
        if (static_cast<unsigned char>(byte) < ' ') byte = '?';
    return text;
}

class @TYPE@ : public gw::Receiver {
public:
    static constexpr std::string_view config_schema = R"({
        "type": "object", "properties": { "path": { "type": "string" } }, "required": ["path"], "additionalProperties": false
    })";

    @TYPE@(const gw::Json &config, gw::Host host) : host_(host) {
        config.only({"path"});
        path_ = config["path"].string();
        if (path_.empty()) config["path"].refuse("must name a file");
    }

    void deliver(const gw::Profile &profile, gw::Delivery &&delivery) override {
        std::string line;
        for (const gw_label &label : profile.labels()) line += printable(label.name) + "=" + printable(label.value) + " ";
        line += std::to_string(profile.byte_count()) + " bytes\n";
        try {
            append(line);
        } catch (const std::exception &problem) {
            host_.set_health(GW_HEALTH_FAILED, problem.what());
            throw;  // The gateway delivers the profile again.
        }
        host_.set_health(GW_HEALTH_OK);
        delivery.delivered();
    }

private:
    /// Returns once the system has taken the line.
    void append(const std::string &line) const {
        std::unique_ptr<std::FILE, int (*)(std::FILE *)> file(std::fopen(path_.c_str(), "ae"), std::fclose);  // "e": close-on-exec.
        if (!file || std::fwrite(line.data(), 1, line.size(), file.get()) != line.size() || std::fflush(file.get()) != 0)
            throw std::system_error(errno, std::generic_category(), path_);
    }

    gw::Host host_;
    std::string path_;
};

}  // namespace

GW_PLUGIN(@TYPE@, "@NAME@", "0.1.0");
