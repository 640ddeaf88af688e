// A plugin with gw.hpp; what its config says is what it does.
#include <mutex>
#include <vector>
#include "gw.hpp"

namespace {

class Odd : public gw::Receiver {
public:
    Odd(std::string_view config, gw::Host host) : deed_(config), host_(host) {
        if (does("throw in create")) throw std::runtime_error("member: cannot be");
        if (does("throw a number in create")) throw 7;
        if (does("throw much in create")) {
            std::string text;
            for (int i = 0; i < 9000; i++) text += "\u00e9";
            throw std::runtime_error(text);
        }
        if (does("want json")) gw::Json::parse(host, config);
        if (does("want a timer")) gw::Timer(host, 0, [] {});
        host.metric(GW_METRIC_COUNTER, "odd_made_total", "Instances.", {{gw::slice("kind"), gw::slice("new")}}).observe(1);
    }
    void start() override {
        if (does("throw in start")) throw std::runtime_error("the device is busy");
    }
    void deliver(const gw::Profile &profile, gw::Delivery &&delivery) override {
        if (does("throw in deliver")) throw std::runtime_error("the disk is on fire");
        if (does("throw a number in deliver")) throw 7;
        if (does("reject")) throw gw::Rejected("poison", "label env is wrong");
        if (does("drop")) return;
        if (does("keep")) {
            std::lock_guard<std::mutex> lock(mutex_);
            kept_.push_back({host_.retain(profile), std::move(delivery)});
            return;
        }
        if (does("say all"))
            return delivery.finish({GW_STATUS_RETRY, "later", std::chrono::seconds(2), delivery.progress() + 1, 503, ""});
        if (does("finish twice")) {
            gw::Delivery moved = std::move(delivery);
            moved.delivered();
            moved.retry("again");
            return delivery.rejected("once more");
        }
        host_.log(GW_LEVEL_INFO, std::string(profile.label("env")) + " " + std::to_string(profile.byte_count()) + " " + std::string(profile.peer()));
        delivery.delivered();
    }
    void flush(gw::Delivery &&flush) override {
        if (does("throw in flush")) throw std::runtime_error("no sync");
        flush.delivered();
    }
    void drain() override {
        if (does("throw in drain")) throw std::runtime_error("no drain");
    }
    void abort() override {
        std::lock_guard<std::mutex> lock(mutex_);
        for (auto &[profile, delivery] : kept_) {
            host_.log(GW_LEVEL_INFO, "kept " + std::string(profile->label("env")));
            delivery.aborted();
        }
        kept_.clear();
        if (does("throw in abort")) throw std::runtime_error("no abort");
    }

private:
    struct Kept {
        gw::RetainedProfile profile;
        gw::Delivery delivery;
    };

    bool does(std::string_view deed) const { return deed_.find(deed) != std::string::npos; }

    std::string deed_;
    gw::Host host_;
    std::mutex mutex_;
    std::vector<Kept> kept_;
};

}  // namespace

GW_PLUGIN(Odd, "odd", "1.0.0");
