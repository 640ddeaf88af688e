// A receiver plugin that stores profiles in a SQLite database, many in one transaction.
//
// A transaction stays open until it has `batch` profiles, or its first one is `wait_ms` old, or the end is near. The deliveries are finished
// only after COMMIT, so that "delivered" means on disk. A profile that comes again, after a crash between COMMIT and finish, is known by its
// sequence and ignored.
//
// Threads: the database belongs to the instance's own thread, from which all calls but `abort` come. `abort` comes from another one at any
// time, also while a COMMIT is at work; all that it shares with the others is below `lock`.
#include <pthread.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "PluginABI.h"

#define TEXT(literal) {(const uint8_t *)literal, sizeof literal - 1}
enum { MOST_BATCH = 1000, BEGIN = 0, COMMIT, PROFILE, LABEL, SAMPLE, STATEMENTS };

static const char setup[] =
    "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;" // COMMIT returns when the profiles survive a power cut.
    "CREATE TABLE IF NOT EXISTS profiles (sequence INTEGER PRIMARY KEY, received_ns INTEGER NOT NULL, from_ns INTEGER NOT NULL,"
    " until_ns INTEGER NOT NULL, tenant TEXT NOT NULL, format TEXT NOT NULL, query TEXT NOT NULL) STRICT;"
    "CREATE TABLE IF NOT EXISTS labels (sequence INTEGER NOT NULL REFERENCES profiles ON DELETE CASCADE, name TEXT NOT NULL,"
    " value TEXT NOT NULL, PRIMARY KEY (sequence, name)) STRICT, WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS samples (sequence INTEGER NOT NULL REFERENCES profiles ON DELETE CASCADE, number INTEGER NOT NULL,"
    " id TEXT NOT NULL, bytes BLOB NOT NULL, PRIMARY KEY (sequence, number)) STRICT;";

static const char *const statements[STATEMENTS] = {
    [BEGIN] = "BEGIN IMMEDIATE",
    [COMMIT] = "COMMIT",
    [PROFILE] = "INSERT OR IGNORE INTO profiles VALUES (?, ?, ?, ?, ?, ?, ?)",
    [LABEL] = "INSERT INTO labels VALUES (?, ?, ?)",
    [SAMPLE] = "INSERT INTO samples VALUES (?, ?, ?, ?)",
};

typedef struct {
    const gw_host *host;
    const gw_timer *timer;
    size_t batch;
    uint64_t wait_ns;
    sqlite3_stmt *prepared[STATEMENTS];
    bool is_draining;
    gw_health health;
    pthread_mutex_t lock;     // What follows is shared with `abort`.
    sqlite3 *db;              // Changed with the lock held, and used without it: by its own thread.
    bool is_aborted;
    size_t held;
    void *tokens[MOST_BATCH]; // The deliveries whose profiles are in the open transaction.
    char path[];
} sqlite_sink;

// MARK: What the gateway is told

static void finish(const sqlite_sink *self, void *token, gw_status status, const char *reason) {
    gw_outcome outcome = {.size = sizeof outcome, .status = status, .reason = {(const uint8_t *)reason, strlen(reason)}};
    self->host->finish(self->host->context, token, &outcome);
}

/// Finishes all deliveries of the transaction; `finish` may be called with a lock held.
static void finish_held(sqlite_sink *self, gw_status status, const char *reason) {
    pthread_mutex_lock(&self->lock);
    while (self->held > 0) finish(self, self->tokens[--self->held], status, reason);
    pthread_mutex_unlock(&self->lock);
}

/// States how the instance is, when that has changed: busy passes by itself, a full or broken disk needs a person.
static void set_health(sqlite_sink *self, int code, const char *reason) {
    gw_health health = code == SQLITE_OK ? GW_HEALTH_OK : code == SQLITE_BUSY ? GW_HEALTH_DEGRADED : GW_HEALTH_FAILED;
    if (health == self->health || code == SQLITE_INTERRUPT || code == SQLITE_TOOBIG) return;
    self->health = health;
    self->host->set_health(self->host->context, health, (gw_slice){(const uint8_t *)reason, strlen(reason)});
}

// MARK: The database, from the instance's own thread

/// Runs a prepared statement once. Its parameters are forgotten, because what they point to does not stay.
static int run(sqlite_sink *self, int number) {
    sqlite3_stmt *statement = self->prepared[number];
    int code = sqlite3_step(statement);
    sqlite3_reset(statement);
    sqlite3_clear_bindings(statement);
    return code == SQLITE_DONE || code == SQLITE_ROW ? SQLITE_OK : code;
}

static void bind_text(sqlite3_stmt *statement, int index, gw_slice text) {
    sqlite3_bind_text64(statement, index, text.count ? (const char *)text.bytes : "", text.count, SQLITE_STATIC, SQLITE_UTF8);
}

/// Adds a profile to the open transaction, or begins one.
static int store(sqlite_sink *self, const gw_profile *profile) {
    sqlite3_int64 sequence = (sqlite3_int64)profile->sequence;
    int code = sqlite3_get_autocommit(self->db) ? run(self, BEGIN) : SQLITE_OK;
    if (code != SQLITE_OK) return code;
    sqlite3_stmt *row = self->prepared[PROFILE];
    sqlite3_bind_int64(row, 1, sequence), sqlite3_bind_int64(row, 2, profile->received_ns);
    sqlite3_bind_int64(row, 3, profile->from_ns), sqlite3_bind_int64(row, 4, profile->until_ns);
    bind_text(row, 5, profile->tenant), bind_text(row, 6, profile->format), bind_text(row, 7, profile->query);
    code = run(self, PROFILE);
    if (code == SQLITE_OK && sqlite3_changes(self->db) == 0) return SQLITE_OK; // It is there from an earlier attempt, with all that is its.
    row = self->prepared[LABEL];
    for (size_t i = 0; code == SQLITE_OK && i < profile->label_count; i++) {
        sqlite3_bind_int64(row, 1, sequence);
        bind_text(row, 2, profile->labels[i].name), bind_text(row, 3, profile->labels[i].value);
        code = run(self, LABEL);
    }
    row = self->prepared[SAMPLE];
    for (size_t i = 0; code == SQLITE_OK && i < profile->sample_count; i++) {
        gw_slice bytes = profile->samples[i].bytes;
        sqlite3_bind_int64(row, 1, sequence), sqlite3_bind_int64(row, 2, (sqlite3_int64)i);
        bind_text(row, 3, profile->samples[i].id);
        code = sqlite3_bind_blob64(row, 4, bytes.count ? (const void *)bytes.bytes : "", bytes.count, SQLITE_STATIC);
        if (code == SQLITE_OK) code = run(self, SAMPLE);
    }
    return code;
}

/// Undoes the transaction, whose profiles the gateway will deliver again.
static void roll_back(sqlite_sink *self, int code) {
    char reason[256];
    snprintf(reason, sizeof reason, "%s: %s", self->path, sqlite3_errmsg(self->db));
    // Some errors have rolled it back already; then this one fails, which changes nothing.
    sqlite3_exec(self->db, "ROLLBACK", NULL, NULL, NULL);
    set_health(self, code, reason);
    finish_held(self, GW_STATUS_RETRY, reason);
}

static void batch_is_old(void *object);
/// Ends the open transaction, if there is one; only then its deliveries are finished.
static int commit(sqlite_sink *self) {
    self->timer->set(self->host->context, 0, GW_TIMER_OFF, batch_is_old, self);
    if (!self->db || sqlite3_get_autocommit(self->db)) return SQLITE_OK;
    int code = run(self, COMMIT);
    if (code != SQLITE_OK) return roll_back(self, code), code;
    set_health(self, SQLITE_OK, "");
    finish_held(self, GW_STATUS_DELIVERED, "");
    return SQLITE_OK;
}

static void batch_is_old(void *object) { commit(object); }
static void close_database(sqlite_sink *self) {
    pthread_mutex_lock(&self->lock);
    sqlite3 *db = self->db;
    self->db = NULL;
    pthread_mutex_unlock(&self->lock);
    for (int i = 0; i < STATEMENTS; i++) sqlite3_finalize(self->prepared[i]), self->prepared[i] = NULL;
    sqlite3_close(db);
}

// MARK: The calls of the gateway

/// Opens the database. It may be away for now: then the gateway calls again.
static int32_t start(void *object, gw_error *error) {
    sqlite_sink *self = object;
    sqlite3 *db = NULL;
    int code = sqlite3_open_v2(self->path, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, NULL);
    pthread_mutex_lock(&self->lock);
    self->db = db;
    pthread_mutex_unlock(&self->lock);
    if (code == SQLITE_OK) code = sqlite3_busy_timeout(db, 250); // Less than the second that `abort` has.
    if (code == SQLITE_OK) code = sqlite3_exec(db, setup, NULL, NULL, NULL);
    for (int i = 0; code == SQLITE_OK && i < STATEMENTS; i++) code = sqlite3_prepare_v2(db, statements[i], -1, &self->prepared[i], NULL);
    if (code == SQLITE_OK) return 0;
    int count = snprintf(error->text, error->capacity, "%s: %s", self->path, sqlite3_errmsg(db));
    error->count = (size_t)count < error->capacity ? (size_t)count : error->capacity - 1;
    close_database(self);
    return 1;
}

static void deliver(void *object, const gw_profile *profile, const gw_delivery *delivery) {
    sqlite_sink *self = object;
    int code = store(self, profile);
    if (code != SQLITE_OK) roll_back(self, code);
    pthread_mutex_lock(&self->lock);
    bool is_aborted = self->is_aborted, is_first = self->held == 0;
    if (code == SQLITE_OK && !is_aborted) self->tokens[self->held++] = delivery->token;
    bool is_full = self->held >= self->batch || self->is_draining;
    pthread_mutex_unlock(&self->lock);
    // Outside the database's limits it will never be stored; anything else may pass: SQLITE_BUSY, SQLITE_FULL, SQLITE_IOERR.
    if (is_aborted) finish(self, delivery->token, GW_STATUS_ABORTED, "");
    else if (code == SQLITE_TOOBIG) finish(self, delivery->token, GW_STATUS_REJECTED, "larger than a row may be");
    else if (code != SQLITE_OK) finish(self, delivery->token, GW_STATUS_RETRY, sqlite3_errstr(code));
    else if (is_full) commit(self);
    else if (is_first) self->timer->set(self->host->context, 0, self->wait_ns, batch_is_old, self);
}

static void drain(void *object) {
    ((sqlite_sink *)object)->is_draining = true;
    commit(object);
}
static void flush(void *object, void *token) {
    int code = commit(object);
    finish(object, token, code == SQLITE_OK ? GW_STATUS_DELIVERED : GW_STATUS_RETRY, code == SQLITE_OK ? "" : sqlite3_errstr(code));
}

/// From another thread: what is held is given back, and a statement that is at work stops. A COMMIT that succeeds all the same does no harm,
/// since the profiles are known when they come again.
static void abort_all(void *object) {
    sqlite_sink *self = object;
    pthread_mutex_lock(&self->lock);
    self->is_aborted = true;
    if (self->db) sqlite3_interrupt(self->db);
    pthread_mutex_unlock(&self->lock);
    finish_held(self, GW_STATUS_ABORTED, "");
}

static void destroy(void *object) {
    sqlite_sink *self = object;
    close_database(self); // This rolls back what an abort has left open.
    pthread_mutex_destroy(&self->lock);
    free(self);
}

// MARK: Config

/// Adds a line to the error.
__attribute__((format(printf, 2, 3))) static void refuse(gw_error *error, const char *format, ...) {
    va_list values;
    va_start(values, format);
    size_t room = error->capacity - error->count;
    int count = vsnprintf(error->text + error->count, room, format, values);
    va_end(values);
    if (count > 0 && room > 0) error->count += (size_t)count < room ? (size_t)count : room - 1;
}

/// A member that is a whole number, or its default.
static uint32_t number(const gw_json *json, const gw_json_value *object, const char *name, uint32_t otherwise, uint32_t most, gw_error *error) {
    const gw_json_value *value = json->member(object, name);
    if (!value) return otherwise;
    bool is_inside = value->kind == GW_JSON_NUMBER && value->number >= 1 && value->number <= most;
    if (is_inside && (uint32_t)value->number == value->number) return (uint32_t)value->number;
    refuse(error, "%s: must be a whole number, 1 to %u\n", name, most);
    return otherwise;
}

static void *create(const gw_host *host, gw_slice config, gw_error *error) {
    static const char *const names[] = {"path", "batch", "wait_ms"};
    error->count = 0;
    const gw_json *json = host->extension(host->context, GW_JSON_EXTENSION);
    const gw_timer *timer = host->extension(host->context, GW_TIMER_EXTENSION);
    const gw_instance *facts = host->extension(host->context, GW_INSTANCE_EXTENSION);
    if (!json || !timer || !facts) return refuse(error, "this gateway is too old: it has no " GW_JSON_EXTENSION " or " GW_TIMER_EXTENSION), NULL;
    const gw_json_value *object = json->parse(config, error);
    if (!object) return NULL;
    const gw_json_value *unknown = json->unknown(object, names, 3), *path = json->member(object, "path");
    if (unknown) refuse(error, "%.*s: unknown\n", (int)unknown->name.count, (const char *)unknown->name.bytes);
    if (!path || path->kind != GW_JSON_STRING || !path->text.count) refuse(error, "path: must be a string that names a file\n");
    uint32_t batch = number(json, object, "batch", 100, MOST_BATCH, error), wait_ms = number(json, object, "wait_ms", 1000, 60000, error);
    sqlite_sink *self = error->count ? NULL : calloc(1, sizeof *self + path->text.count + 1);
    if (self) {
        self->host = host, self->timer = timer;
        memcpy(self->path, path->text.bytes, path->text.count);
        // More deliveries than max_in_flight are never open at a time.
        self->batch = batch > facts->max_in_flight ? facts->max_in_flight : batch;
        self->wait_ns = (uint64_t)wait_ms * 1000000;
        pthread_mutex_init(&self->lock, NULL);
    } else if (!error->count) {
        refuse(error, "no memory");
    }
    json->release(object);
    return self;
}

static const gw_plugin plugin = {
    .size = sizeof plugin, .name = TEXT("example.sqlite"), .version = TEXT("1.0.0"), .create = create, .start = start, .deliver = deliver,
    .drain = drain, .flush = flush, .abort = abort_all, .destroy = destroy,
    .config_schema = TEXT("{\"type\":\"object\",\"required\":[\"path\"],\"additionalProperties\":false,\"properties\":{"
        "\"path\":{\"type\":\"string\",\"minLength\":1},\"batch\":{\"type\":\"integer\",\"minimum\":1,\"maximum\":1000},"
        "\"wait_ms\":{\"type\":\"integer\",\"minimum\":1,\"maximum\":60000}}}"),
};

GW_EXPORT const gw_plugin *gw_plugin_v1(size_t host_size) { return host_size < GW_V1_0_HOST ? NULL : &plugin; }
