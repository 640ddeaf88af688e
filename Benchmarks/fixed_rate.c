// Sends requests at a fixed rate over keep-alive connections, and prints the latencies as JSON.
//
// Every request has a time at which it is due, and its latency counts from then on, even while no connection is free for it. A server
// that pauses so delays every request that is due in its pause, and not only those that were already sent. (Loads that send the next
// request after an answer leave those out, which is called coordinated omission.)
// Each file is one whole request, head and body; they take turns.
// Usage: fixed_rate PORT REQUESTS_PER_SECOND SECONDS CONNECTIONS FILE...
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { most_files = 16, most_events = 256 };

struct request { char *bytes; size_t size; };
struct connection { int socket; bool is_busy; const struct request *request; uint64_t due; size_t sent, got; char answer[8192]; struct connection *next; };

static struct request requests[most_files];
static int files, poll_fd;
static in_port_t port;
static struct connection *idle;
static uint64_t *latencies, answers, errors, sent, total, first_due;
static double interval;

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}
static uint64_t due(uint64_t number) { return first_due + (uint64_t)((double)number * interval); }

static void request_read(struct request *request, const char *path) {
    int fd = open(path, O_RDONLY);
    struct stat status;
    if (fd < 0 || fstat(fd, &status)) err(1, "%s", path);
    request->size = status.st_size, request->bytes = malloc(request->size);
    if (read(fd, request->bytes, request->size) != status.st_size) err(1, "%s", path);
    close(fd);
}
static void connection_open(struct connection *c) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if ((c->socket = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) < 0 || connect(c->socket, (struct sockaddr *)&address, sizeof address)) err(1, "connect");
    setsockopt(c->socket, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    if (epoll_ctl(poll_fd, EPOLL_CTL_ADD, c->socket, &(struct epoll_event){.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = c})) err(1, "epoll_ctl");
    c->is_busy = false, c->next = idle, idle = c;
}
static void connection_finish(struct connection *c, bool is_success) {
    if (is_success) latencies[answers++] = now() - c->due;
    else errors++;
    c->is_busy = false;
    if (is_success) c->next = idle, idle = c;
    else close(c->socket), connection_open(c);
}
static void connection_send(struct connection *c) {
    ssize_t n;
    while (c->sent < c->request->size && (n = send(c->socket, c->request->bytes + c->sent, c->request->size - c->sent, MSG_NOSIGNAL | MSG_DONTWAIT)) > 0)
        c->sent += n;
}
// Whether a whole answer has come. It has a Content-Length, or is chunked.
static bool answer_is_whole(struct connection *c) {
    c->answer[c->got] = 0;
    char *end = strstr(c->answer, "\r\n\r\n"), *length = strcasestr(c->answer, "\r\nContent-Length:");
    if (!end) return false;
    if (length && length < end) return c->got >= (size_t)(end + 4 - c->answer) + strtoul(length + 17, NULL, 10);
    return c->got >= 5 && !strcmp(c->answer + c->got - 5, "0\r\n\r\n");
}
static void connection_go_on(struct connection *c) {
    if (!c->is_busy) return;
    connection_send(c);
    for (;;) {
        if (c->got && answer_is_whole(c)) {
            if (c->sent == c->request->size) connection_finish(c, !strncmp(c->answer, "HTTP/1.1 200", 12));
            return;
        }
        ssize_t n = recv(c->socket, c->answer + c->got, sizeof c->answer - 1 - c->got, MSG_DONTWAIT);
        if (n == 0 || (n < 0 && errno != EAGAIN)) return connection_finish(c, false);
        if (n < 0) return;
        c->got += n;
    }
}
static void send_what_is_due(void) {
    while (sent < total && idle && due(sent) <= now()) {
        struct connection *c = idle;
        idle = c->next;
        c->is_busy = true, c->request = &requests[sent % files], c->due = due(sent), c->sent = c->got = 0;
        sent++;
        connection_send(c);
    }
}
static int compare(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}
static double percentile(double part) {
    uint64_t index = (uint64_t)(part * (double)answers);
    return answers ? (double)latencies[index < answers ? index : answers - 1] / 1e6 : 0;
}

int main(int count, char **arguments) {
    if (count < 6 || count - 5 > most_files) errx(1, "usage: fixed_rate PORT REQUESTS_PER_SECOND SECONDS CONNECTIONS FILE...");
    port = atoi(arguments[1]), interval = 1e9 / atof(arguments[2]);
    double seconds = atof(arguments[3]);
    int connections = atoi(arguments[4]);
    for (files = 0; files < count - 5; files++) request_read(&requests[files], arguments[5 + files]);
    total = (uint64_t)(seconds * 1e9 / interval), latencies = malloc((total + 1) * sizeof *latencies);
    poll_fd = epoll_create1(0);
    struct connection *all = calloc(connections, sizeof *all);
    for (int i = 0; i < connections; i++) connection_open(&all[i]);
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    if (epoll_ctl(poll_fd, EPOLL_CTL_ADD, timer, &(struct epoll_event){.events = EPOLLIN | EPOLLET, .data.ptr = NULL})) err(1, "epoll_ctl");
    first_due = now() + 20000000;
    // A server that cannot keep the rate gets as long again; what is unanswered then counts with the time that it has waited.
    uint64_t end = first_due + (uint64_t)(2 * seconds * 1e9) + 1000000000, set = 0;
    struct epoll_event events[most_events];
    while (answers + errors < total && now() < end) {
        if (sent < total && idle && set <= sent) {
            uint64_t at = due(sent);
            timerfd_settime(timer, TFD_TIMER_ABSTIME, &(struct itimerspec){.it_value = {.tv_sec = at / 1000000000, .tv_nsec = at % 1000000000}}, NULL);
            set = sent + 1;
        }
        int ready = epoll_wait(poll_fd, events, most_events, 1000);
        for (int i = 0; i < ready; i++)
            if (events[i].data.ptr) connection_go_on(events[i].data.ptr);
        send_what_is_due();
    }
    uint64_t answered = answers, last = now();
    for (int i = 0; i < connections; i++)
        if (all[i].is_busy) latencies[answers++] = last - all[i].due;
    for (; sent < total; sent++) latencies[answers++] = last - due(sent);
    qsort(latencies, answers, sizeof *latencies, compare);
    printf("{\"count\": %llu, \"unanswered\": %llu, \"errors\": %llu, \"p50\": %.4f, \"p99\": %.4f, \"p99.9\": %.4f, \"max\": %.4f}\n", (unsigned long long)answered,
           (unsigned long long)(answers - answered), (unsigned long long)errors, percentile(0.5), percentile(0.99), percentile(0.999), percentile(1));
}
