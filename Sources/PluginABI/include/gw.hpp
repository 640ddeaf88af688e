// gw.hpp - a receiver plugin in C++17: derive a class from gw::Receiver, and name it in GW_PLUGIN.  Nothing to link.
//
//     class Sink : public gw::Receiver {
//     public:
//         Sink(const gw::Json &config, gw::Host host);
//         void deliver(const gw::Profile &profile, gw::Delivery &&delivery) override;
//     };
//     GW_PLUGIN(Sink, "my-sink", "0.1.0");
//
// PluginABI.h is the contract and holds here too: threads, lifetimes, what "delivered" means.  What this header adds:
// Exceptions  None leaves a call.  One of the constructor is the text of the refused config, one of `start` the reason to call it again
//             later.  One of `deliver`, `flush` or `probe` ends the operation as `retry` with its what(), a gw::Rejected as `rejected`.
//             One of `drain`, `abort` or a timer is logged.
// Deliveries  A gw::Delivery is finished once: a later outcome does nothing, and one that is dropped without an outcome is `rejected`.
#pragma once
#include <chrono>
#include <cstdio>
#include <exception>
#include <functional>
#include <initializer_list>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "PluginABI.h"

namespace gw {

/// The text of a slice, valid as long as what the slice is a part of.
inline std::string_view text(gw_slice slice) noexcept { return {reinterpret_cast<const char *>(slice.bytes), slice.count}; }
/// A slice of a text, valid as long as the text.
inline gw_slice slice(std::string_view text) noexcept { return {reinterpret_cast<const uint8_t *>(text.data()), text.size()}; }

/// Thrown from `deliver`: the profile will never be taken.
class Rejected : public std::runtime_error {
public:
    /// `sender_message` reaches the sender where it waits for the outcome: the destination's word, without secrets.
    explicit Rejected(const std::string &reason, std::string sender_message = {})
        : std::runtime_error(reason), message_(std::move(sender_message)) {}
    const std::string &sender_message() const noexcept { return message_; }

private:
    std::string message_;
};

/// A part of a C array, for `for`.
template <class T>
struct Range {
    const T *first;
    size_t count;
    const T *begin() const noexcept { return first; }
    const T *end() const noexcept { return first + count; }
    size_t size() const noexcept { return count; }
    const T &operator[](size_t index) const noexcept { return first[index]; }
};

/// A profile that somebody else keeps: during `deliver`, until its delivery is finished, or as long as a RetainedProfile of it.
class Profile {
public:
    explicit Profile(const gw_profile *profile) noexcept : profile_(profile) {}
    /// All fields, as PluginABI.h describes them.
    const gw_profile *operator->() const noexcept { return profile_; }
    const gw_profile *get() const noexcept { return profile_; }
    Range<gw_label> labels() const noexcept { return {profile_->labels, profile_->label_count}; }
    Range<gw_label> headers() const noexcept { return {profile_->headers, profile_->header_count}; }
    Range<gw_sample> samples() const noexcept { return {profile_->samples, profile_->sample_count}; }
    /// The value of a label; empty when there is none.
    std::string_view label(std::string_view name) const noexcept {
        for (const gw_label &label : labels())
            if (text(label.name) == name) return text(label.value);
        return {};
    }
    /// The bytes of all samples together.
    size_t byte_count() const noexcept {
        size_t count = 0;
        for (const gw_sample &sample : samples()) count += sample.bytes.count;
        return count;
    }
    /// The sender's address; empty when it is not known, or when the gateway is older than v1.1.
    std::string_view peer() const noexcept { return GW_HAS(profile_, peer) ? text(profile_->peer) : std::string_view(); }

private:
    const gw_profile *profile_;
};

/// A profile that stays after its delivery, as long as this or a copy of it.
class RetainedProfile {
public:
    RetainedProfile(const gw_host *host, Profile profile) noexcept : host_(host), profile_(profile) { host_->retain(profile_.get()); }
    RetainedProfile(const RetainedProfile &other) noexcept : RetainedProfile(other.host_, other.profile_) {}
    RetainedProfile(RetainedProfile &&other) noexcept : RetainedProfile(other.host_, other.profile_) {}
    RetainedProfile &operator=(RetainedProfile other) noexcept {
        std::swap(host_, other.host_);
        std::swap(profile_, other.profile_);
        return *this;
    }
    ~RetainedProfile() { host_->release(profile_.get()); }
    const Profile &operator*() const noexcept { return profile_; }
    const Profile *operator->() const noexcept { return &profile_; }

private:
    const gw_host *host_;
    Profile profile_;
};

/// How an operation ended; see gw_outcome.
struct Outcome {
    gw_status status = GW_STATUS_REJECTED;
    std::string reason = {};
    std::chrono::nanoseconds retry_after = std::chrono::nanoseconds::zero();
    uint64_t progress = 0;
    uint32_t http_status = 0;
    std::string sender_message = {};
};

/// One attempt at handing a profile over, or one flush or probe.  Whoever has it finishes it, at once or later, from any thread; the
/// first outcome counts.  It moves, and cannot be copied.
class Delivery {
public:
    Delivery(const gw_host *host, void *token, uint32_t attempt = 1, uint64_t progress = 0) noexcept
        : host_(host), token_(token), attempt_(attempt), progress_(progress) {}
    Delivery(Delivery &&other) noexcept
        : host_(std::exchange(other.host_, nullptr)), token_(other.token_), attempt_(other.attempt_), progress_(other.progress_) {}
    Delivery &operator=(Delivery &&other) noexcept {
        if (this == &other) return *this;
        drop();
        host_ = std::exchange(other.host_, nullptr);
        token_ = other.token_;
        attempt_ = other.attempt_;
        progress_ = other.progress_;
        return *this;
    }
    ~Delivery() { drop(); }

    /// Whether it is neither finished nor moved to elsewhere.
    bool is_open() const noexcept { return host_ != nullptr; }
    /// 1 on the first attempt.
    uint32_t attempt() const noexcept { return attempt_; }
    /// What the last attempt left in Outcome::progress; 0 at first.
    uint64_t progress() const noexcept { return progress_; }

    /// Stored or accepted by the destination.
    void delivered() noexcept { end(GW_STATUS_DELIVERED); }
    /// It failed for now; the gateway may deliver the profile again.
    void retry(std::string_view reason) noexcept { end(GW_STATUS_RETRY, reason); }
    /// This profile will never be taken.
    void rejected(std::string_view reason, std::string_view sender_message = {}) noexcept {
        end(GW_STATUS_REJECTED, reason, sender_message);
    }
    /// Given up because of `abort`.
    void aborted() noexcept { end(GW_STATUS_ABORTED); }
    /// Any outcome.  After it, neither the profile nor its bytes may be touched, unless it is retained.
    void finish(const Outcome &outcome) noexcept {
        const auto after = outcome.retry_after.count();
        end(outcome.status, outcome.reason, outcome.sender_message, after > 0 ? static_cast<uint64_t>(after) : 0, outcome.progress,
            outcome.http_status);
    }

private:
    void end(gw_status status, std::string_view reason = {}, std::string_view sender_message = {}, uint64_t retry_after = 0,
             uint64_t progress = 0, uint32_t http_status = 0) noexcept {
        const gw_host *host = std::exchange(host_, nullptr);
        if (host == nullptr) return;
        gw_outcome outcome{};
        outcome.size = sizeof outcome;
        outcome.status = status;
        outcome.retry_after_ns = retry_after;
        outcome.progress = progress;
        outcome.http_status = http_status;
        outcome.reason = slice(reason);
        outcome.sender_message = slice(sender_message);
        host->finish(host->context, token_, &outcome);
    }
    void drop() noexcept { rejected("the plugin dropped the delivery without an outcome"); }

    const gw_host *host_;
    void *token_;
    uint32_t attempt_;
    uint64_t progress_;
};

/// A counter, gauge or histogram of the gateway.  Any thread may use it.
class Metric {
public:
    Metric(const gw_host *host, uint32_t id) noexcept : host_(host), id_(id) {}
    /// Adds to a counter, sets a gauge, or observes a duration in nanoseconds.
    void observe(int64_t value) const noexcept { host_->observe(host_->context, id_, value); }

private:
    const gw_host *host_;
    uint32_t id_;
};

/// The gateway's services for one instance.  Any thread may use it until the instance's destructor has ended.
class Host {
public:
    explicit Host(const gw_host *host) noexcept : host_(host) {}
    const gw_host *get() const noexcept { return host_; }
    /// Writes one line to the gateway's log, which adds time and receiver.
    void log(gw_level level, std::string_view message) const noexcept { host_->log(host_->context, level, slice(message)); }
    /// States the instance's health; replaces the last statement.
    void set_health(gw_health health, std::string_view reason = {}) const noexcept {
        host_->set_health(host_->context, health, slice(reason));
    }
    /// Declares a metric; the same name and labels give the same one.  Its name begins with the plugin's, other characters as `_`.
    Metric metric(gw_metric_kind kind, std::string_view name, std::string_view help,
                  std::initializer_list<gw_label> labels = {}) const noexcept {
        return {host_, host_->metric(host_->context, kind, slice(name), slice(help), labels.begin(), labels.size())};
    }
    /// Keeps a profile after its delivery.
    RetainedProfile retain(Profile profile) const noexcept { return {host_, profile}; }
    /// A further service, as the struct that PluginExtensions.h declares beside its id; NULL when this gateway has none such.
    template <class T>
    const T *extension(const char *id) const noexcept { return static_cast<const T *>(host_->extension(host_->context, id)); }
    /// As `extension`, for a plugin that cannot do without.
    template <class T>
    const T *needed(const char *id) const {
        if (const T *found = extension<T>(id)) return found;
        throw std::runtime_error(std::string("this gateway is too old: it has no ") + id);
    }
    /// What the gateway knows of the instance; NULL in a gateway without gw.instance/1.
    const gw_instance *instance() const noexcept { return extension<gw_instance>(GW_INSTANCE_EXTENSION); }

private:
    const gw_host *host_;
};

/// A value of a JSON text, read with gw.json/1, with its path for what is said about it.  Copies share the text.
///
/// A member that is absent is a Json too, which is false.  What is not as it is asked for throws: "retry.max: must be 1 to 100, is 0".
class Json {
public:
    /// Reads any text; it throws what is wrong with it.
    static Json parse(Host host, std::string_view text) { return Json(std::make_shared<const Text>(host, text, nullptr)); }
    /// Reads the config: a string that was one `${NAME}` counts as the number or boolean that it spells.  During `create` only.
    static Json config(Host host, std::string_view text) {
        return Json(std::make_shared<const Text>(host, text, host.extension<char>(GW_ENVIRONMENT_EXTENSION)));
    }

    explicit operator bool() const noexcept { return value_ != nullptr; }
    gw_json_kind kind() const noexcept { return value_ ? value_->kind : static_cast<gw_json_kind>(GW_JSON_NULL); }
    /// The name of a member; empty for what is no member.
    std::string_view name() const noexcept { return value_ ? gw::text(value_->name) : std::string_view(); }
    const std::string &path() const noexcept { return path_; }

    /// The member of an object; false when there is none.
    Json operator[](const char *name) const {
        if (value_ && kind() != GW_JSON_OBJECT) refuse("must be an object");
        return Json(text_, text_->reader->member(value_, name), member_path(name));
    }
    /// Refuses every member of an object but these.
    void only(std::initializer_list<const char *> names) const {
        if (kind() != GW_JSON_OBJECT) refuse("must be an object");
        if (const gw_json_value *found = text_->reader->unknown(value_, names.begin(), names.size()))
            throw std::invalid_argument(member_path(gw::text(found->name)) + ": unknown");
    }

    /// A string that has to be there.
    std::string string() const {
        if (kind() != GW_JSON_STRING) refuse("must be a string");
        return std::string(gw::text(value_->text));
    }
    std::string string_or(std::string_view fallback) const { return value_ ? string() : std::string(fallback); }
    /// A number that has to be there.
    double number(double least, double most) const {
        const auto [found, value] = scalar();
        if (found == GW_JSON_NUMBER && value >= least && value <= most) return value;
        char wanted[96];
        std::snprintf(wanted, sizeof wanted, "must be %.15g to %.15g", least, most);
        refuse(wanted + (kind() == GW_JSON_NUMBER ? ", is " + std::string(gw::text(value_->text)) : std::string()));
    }
    double number_or(double fallback, double least, double most) const { return value_ ? number(least, most) : fallback; }
    /// True or false that has to be there.
    bool boolean() const {
        const auto [found, value] = scalar();
        if (found != GW_JSON_BOOLEAN) refuse("must be true or false");
        return value != 0;
    }
    bool boolean_or(bool fallback) const { return value_ ? boolean() : fallback; }

    /// The values of an array, or the members of an object, in the order of the text; none of what is absent.
    class Iterator {
    public:
        Iterator(const Json *parent, const gw_json_value *value, size_t index) noexcept : parent_(parent), value_(value), index_(index) {}
        Json operator*() const {
            const bool is_member = parent_->kind() == GW_JSON_OBJECT;
            return Json(parent_->text_, value_,
                        is_member ? parent_->member_path(gw::text(value_->name)) : parent_->path_ + "[" + std::to_string(index_) + "]");
        }
        Iterator &operator++() noexcept {
            value_ += value_->span;
            index_++;
            return *this;
        }
        bool operator!=(const Iterator &other) const noexcept { return index_ != other.index_; }

    private:
        const Json *parent_;
        const gw_json_value *value_;
        size_t index_;
    };
    size_t size() const noexcept { return value_ ? value_->count : 0; }
    Iterator begin() const {
        if (value_ && kind() != GW_JSON_ARRAY && kind() != GW_JSON_OBJECT) refuse("must be an array or an object");
        return {this, value_ ? value_ + 1 : nullptr, 0};
    }
    Iterator end() const noexcept { return {this, nullptr, size()}; }

    /// Throws what is wrong with this value.
    [[noreturn]] void refuse(const std::string &problem) const {
        throw std::invalid_argument((path_.empty() ? path_ : path_ + ": ") + (value_ || path_.empty() ? problem : problem + ", is missing"));
    }

private:
    /// All values of a text, freed with the last Json of it.
    struct Text {
        const gw_json *reader;
        std::string references;  // Paths, each between two newlines.
        const gw_json_value *first;

        Text(Host host, std::string_view text, const char *paths)
            : reader(host.needed<gw_json>(GW_JSON_EXTENSION)), references(paths ? "\n" + std::string(paths) + "\n" : std::string()) {
            char room[1024];
            gw_error error{room, sizeof room, 0};
            first = reader->parse(slice(text), &error);
            if (first == nullptr) throw std::invalid_argument(std::string(room, error.count));
        }
        Text(const Text &) = delete;
        Text &operator=(const Text &) = delete;
        ~Text() { reader->release(first); }
    };

    explicit Json(std::shared_ptr<const Text> text) : text_(std::move(text)), value_(text_->first) {}
    Json(std::shared_ptr<const Text> text, const gw_json_value *value, std::string path)
        : text_(std::move(text)), value_(value), path_(std::move(path)) {}
    std::string member_path(std::string_view name) const { return path_.empty() ? std::string(name) : path_ + "." + std::string(name); }
    /// The kind and the number of this value, or of that which a reference to the environment spells.
    std::pair<gw_json_kind, double> scalar() const {
        if (kind() == GW_JSON_STRING && text_->references.find("\n" + path_ + "\n") != std::string::npos) {
            char room[64];
            gw_error error{room, sizeof room, 0};
            if (const gw_json_value *spelled = text_->reader->parse(value_->text, &error)) {
                const std::pair<gw_json_kind, double> found{spelled->kind, spelled->number};
                text_->reader->release(spelled);
                return found;
            }
        }
        return {kind(), value_ ? value_->number : 0};
    }

    std::shared_ptr<const Text> text_;
    const gw_json_value *value_;
    std::string path_;
};

/// What GW_PLUGIN makes a plugin of.  Its constructor takes (const gw::Json &config, gw::Host host), or the config as std::string_view;
/// it starts no thread and no connection, and throws to refuse the config.  The destructor ends all threads.
class Receiver {
public:
    Receiver() = default;
    Receiver(const Receiver &) = delete;
    Receiver &operator=(const Receiver &) = delete;
    virtual ~Receiver() = default;

    /// A JSON Schema of the config; a derived class may have its own.
    static constexpr std::string_view config_schema{};

    /// Takes one profile.  Whoever finishes later moves the delivery away; what is still here, and open, when this ends is dropped.
    virtual void deliver(const Profile &profile, Delivery &&delivery) = 0;
    /// Threads and connections may begin; throws when the instance cannot work yet.
    virtual void start() {}
    /// The end is near: what is held back for more profiles is sent now.
    virtual void drain() {}
    /// Makes durable what was handed over before, then finishes.
    virtual void flush(Delivery &&flush) { flush.delivered(); }
    /// Finishes every open delivery within a second.  Comes from any thread.
    virtual void abort() {}
    /// Tries to connect and authenticate, for `check --connect`.  Only a class that overrides it has one; without `start` before it.
    virtual void probe(Delivery &&probe) { probe.delivered(); }
};

/// Calls a function at a later time from the instance's own delivery thread, with gw.timer/1.  A member of the receiver.
class Timer {
public:
    /// `number` is 0 to 7, and no other timer of the instance has it.
    Timer(Host host, uint32_t number, std::function<void()> fire)
        : host_(host), timer_(host.needed<gw_timer>(GW_TIMER_EXTENSION)), number_(number), fire_(std::move(fire)) {
        if (number >= GW_TIMERS || !fire_) throw std::invalid_argument("there is no such timer");
    }
    Timer(const Timer &) = delete;
    Timer &operator=(const Timer &) = delete;
    ~Timer() { stop(); }

    /// Replaces what it was set to before; fires once.
    void set(std::chrono::nanoseconds delay) noexcept {
        timer_->set(host_.get()->context, number_, delay.count() > 0 ? static_cast<uint64_t>(delay.count()) : 0, call, this);
    }
    void stop() noexcept { timer_->set(host_.get()->context, number_, GW_TIMER_OFF, call, this); }

private:
    static void call(void *timer) noexcept;

    Host host_;
    const gw_timer *timer_;
    uint32_t number_;
    std::function<void()> fire_;
};

namespace detail __attribute__((visibility("hidden"))) {

/// Calls `body`, and gives what it throws to `failed`.
template <class Body, class Failed>
void guarded(Body body, Failed failed) noexcept {
    try {
        body();
    } catch (const std::exception &problem) {
        failed(problem.what());
    } catch (...) {
        failed("the plugin threw what is no std::exception");
    }
}

/// Calls `body` with an operation, which ends when it throws.
template <class Body>
void operation(Delivery delivery, Body body) noexcept {
    guarded([&] {
        try {
            body(std::move(delivery));
        } catch (const Rejected &problem) {
            delivery.rejected(problem.what(), problem.sender_message());
        }
    }, [&](const char *reason) { delivery.retry(reason); });
}

/// Writes a text, as much of it as there is room for, and no part of a character.
inline void write(gw_error *error, std::string_view text) noexcept {
    size_t count = text.size() < error->capacity ? text.size() : error->capacity;
    while (count > 0 && count < text.size() && (text[count] & 0xC0) == 0x80) count--;
    error->count = text.copy(error->text, count);
}

/// An instance: the receiver, and the host for what the receiver leaves undone.
template <class R>
struct Instance {
    Host host;
    R receiver;

    static R make(Host host, std::string_view config) {
        if constexpr (std::is_constructible_v<R, Json, Host>) return R(Json::config(host, config), host);
        else return R(config, host);
    }
    Instance(Host lent, std::string_view config) : host(lent), receiver(make(lent, config)) {}

    static Instance &at(void *instance) noexcept { return *static_cast<Instance *>(instance); }
    auto logger(const char *call) const noexcept {
        return [this, call](const char *reason) {
            guarded([&] { host.log(GW_LEVEL_ERROR, std::string(call) + ": " + reason); }, [](const char *) {});
        };
    }

    static void *create(const gw_host *host, gw_slice config, gw_error *error) noexcept {
        void *made = nullptr;
        guarded([&] { made = new Instance(Host(host), text(config)); }, [&](const char *reason) { write(error, reason); });
        return made;
    }
    static void deliver(void *instance, const gw_profile *profile, const gw_delivery *delivery) noexcept {
        Instance &self = at(instance);
        operation(Delivery(self.host.get(), delivery->token, delivery->attempt, delivery->progress),
                  [&](Delivery &&open) { self.receiver.deliver(Profile(profile), std::move(open)); });
    }
    static void flush(void *instance, void *token) noexcept {
        Instance &self = at(instance);
        operation(Delivery(self.host.get(), token), [&](Delivery &&open) { self.receiver.flush(std::move(open)); });
    }
    static void probe(void *instance, void *token) noexcept {
        Instance &self = at(instance);
        operation(Delivery(self.host.get(), token), [&](Delivery &&open) { self.receiver.probe(std::move(open)); });
    }
    static void abort(void *instance) noexcept { guarded([&] { at(instance).receiver.abort(); }, at(instance).logger("abort")); }
    static void drain(void *instance) noexcept { guarded([&] { at(instance).receiver.drain(); }, at(instance).logger("drain")); }
    static void destroy(void *instance) noexcept { delete &at(instance); }
    static int32_t start(void *instance, gw_error *error) noexcept {
        int32_t status = 0;
        guarded([&] { at(instance).receiver.start(); }, [&](const char *reason) { write(error, reason), status = 1; });
        return status;
    }
};

template <class R>
const gw_plugin *entry(size_t host_size, std::string_view name, std::string_view version) noexcept {
    static const gw_plugin plugin = [&] {
        using I = Instance<R>;
        gw_plugin table{};
        table.size = sizeof table;
        table.name = slice(name);
        table.version = slice(version);
        table.create = I::create;
        table.deliver = I::deliver;
        table.flush = I::flush;
        table.abort = I::abort;
        table.destroy = I::destroy;
        table.start = I::start;
        table.drain = I::drain;
        if constexpr (!std::is_same_v<decltype(&R::probe), decltype(&Receiver::probe)>) table.probe = I::probe;
        table.config_schema = slice(R::config_schema);
        return table;
    }();
    return host_size < GW_V1_0_HOST ? nullptr : &plugin;
}

}  // namespace detail

inline void Timer::call(void *timer) noexcept {
    const Timer &self = *static_cast<Timer *>(timer);
    detail::guarded([&] { self.fire_(); }, [&](const char *reason) { self.host_.log(GW_LEVEL_ERROR, reason); });
}

}  // namespace gw

/// Makes a class the plugin of this shared object: GW_PLUGIN(Sink, "my-sink", "0.1.0");
#define GW_PLUGIN(RECEIVER, NAME, VERSION)                                                                              \
    GW_EXPORT const gw_plugin *gw_plugin_v1(size_t host_size) noexcept;                                                 \
    const gw_plugin *gw_plugin_v1(size_t host_size) noexcept { return gw::detail::entry<RECEIVER>(host_size, NAME, VERSION); } \
    static_assert(true, "a semicolon follows")
