// A plugin with gw.hpp that gathers profiles, and sends them when a timer fires or the batch is full.
#include <vector>
#include "gw.hpp"

class Batch : public gw::Receiver {
public:
    Batch(const gw::Json &config, gw::Host host)
        : host_(host), timer_(host, 3, [this] { send("the timer"); }) {
        config.only({"batch", "targets", "labels"});
        if (gw::Json batch = config["batch"]) {
            batch.only({"size", "delay", "loud"});
            size_ = static_cast<size_t>(batch["size"].number(1, 50));
            delay_ = std::chrono::milliseconds(static_cast<int64_t>(batch["delay"].number_or(10, 0, 1e6)));
            loud_ = batch["loud"].boolean_or(false);
        }
        std::string said = loud_ ? "loud" : "quiet";
        for (gw::Json target : config["targets"]) said += " " + target["name"].string_or("none");
        for (gw::Json label : config["labels"]) said += " " + std::string(label.name()) + "=" + label.string();
        host_.log(GW_LEVEL_INFO, said);
    }
    void deliver(const gw::Profile &, gw::Delivery &&delivery) override {
        open_.push_back(std::move(delivery));
        if (open_.size() >= size_) send("the batch");
        else timer_.set(delay_);
    }
    void drain() override { send("the end"); }
    void probe(gw::Delivery &&probe) override { probe.retry("there is no one"); }

private:
    void send(const char *reason) {
        timer_.stop();
        host_.log(GW_LEVEL_INFO, std::to_string(open_.size()) + " profiles because of " + reason);
        for (gw::Delivery &delivery : open_) delivery.delivered();
        open_.clear();
    }

    gw::Host host_;
    gw::Timer timer_;
    size_t size_ = 50;
    std::chrono::milliseconds delay_{10};
    bool loud_ = false;
    std::vector<gw::Delivery> open_;
};

GW_PLUGIN(Batch, "batch", "1.0.0");
