// The floor of the comparison: what a relay costs that does nothing but pass requests on. It is no server for other uses: it knows
// keep-alive requests with Content-Length, and trusts whoever speaks to it.
//
// One thread reads requests. A thread for each destination writes them there, as they came, over connections of its own.
// The sender gets 200 when every destination has answered 200, otherwise 502.
// Usage: relay PORT DESTINATION_PORT...
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { most_destinations = 16, most_events = 256 };

// A sender's connection with its request. A writer may read it while `open` counts its destination.
struct sender {
    int socket;
    bool busy, closed;
    char *bytes;
    size_t have, need, room;
    atomic_int open, failed;
    struct sender *next[most_destinations + 1];
};
// A list of senders that one thread fills and another one empties. `link` says which `next` it uses.
struct list { pthread_mutex_t lock; struct sender *first, **last; int link, event; };
struct connection { int socket; struct sender *work; size_t sent, got; char answer[4096]; struct connection *next; };
struct writer { struct list todo; int poll; in_port_t port; };

static struct writer writers[most_destinations];
static struct list answered;
static int destinations;

static void watch(int poll, int fd, uint32_t events, void *what) {
    if (epoll_ctl(poll, EPOLL_CTL_ADD, fd, &(struct epoll_event){.events = events, .data.ptr = what})) err(1, "epoll_ctl");
}
static void list_start(struct list *list, int link, int poll) {
    pthread_mutex_init(&list->lock, NULL);
    list->link = link, list->last = &list->first, list->event = eventfd(0, EFD_NONBLOCK);
    watch(poll, list->event, EPOLLIN | EPOLLET, NULL);
}
static void list_add(struct list *list, struct sender *sender) {
    pthread_mutex_lock(&list->lock);
    bool was_empty = !list->first;
    sender->next[list->link] = NULL, *list->last = sender, list->last = &sender->next[list->link];
    pthread_mutex_unlock(&list->lock);
    if (was_empty) eventfd_write(list->event, 1);
}
static struct sender *list_take(struct list *list) {
    pthread_mutex_lock(&list->lock);
    struct sender *first = list->first;
    list->first = NULL, list->last = &list->first;
    pthread_mutex_unlock(&list->lock);
    return first;
}
static int tcp(void) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) err(1, "socket");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    return fd;
}
static struct sockaddr_in loopback(in_port_t port) {
    return (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}
// The size of a whole message, or 0 as long as its head is incomplete.
static size_t message_size(const char *bytes, size_t have) {
    const char *end = memmem(bytes, have, "\r\n\r\n", 4);
    if (!end) return 0;
    for (const char *line = memchr(bytes, '\n', have); line && line < end; line = memchr(line + 1, '\n', end + 4 - line - 1))
        if (!strncasecmp(line + 1, "Content-Length:", 15)) return end + 4 - bytes + strtoul(line + 16, NULL, 10);
    return end + 4 - bytes;
}

// Ends the exchange. A connection that failed is never used again.
static void connection_finish(struct connection *connection, bool is_delivered, struct connection **idle) {
    struct sender *sender = connection->work;
    connection->work = NULL;
    if (is_delivered) connection->next = *idle, *idle = connection;
    else close(connection->socket), atomic_store(&sender->failed, 1);
    if (atomic_fetch_sub(&sender->open, 1) == 1) list_add(&answered, sender);
}
static void connection_send(struct connection *c) {
    ssize_t n;
    while (c->sent < c->work->need && (n = send(c->socket, c->work->bytes + c->sent, c->work->need - c->sent, MSG_NOSIGNAL | MSG_DONTWAIT)) > 0)
        c->sent += n;
}
static void connection_go_on(struct connection *c, struct connection **idle) {
    if (!c->work) return;
    connection_send(c);
    for (;;) {
        size_t size = message_size(c->answer, c->got);
        if (size && c->got >= size) {
            // A destination may answer before it has read the whole request.
            if (c->sent == c->work->need) connection_finish(c, !memcmp(c->answer + 8, " 200", 4), idle);
            return;
        }
        ssize_t n = recv(c->socket, c->answer + c->got, sizeof c->answer - c->got, MSG_DONTWAIT);
        if (n == 0 || (n < 0 && errno != EAGAIN)) return connection_finish(c, false, idle);
        if (n < 0) return;
        c->got += n;
    }
}
static void connection_start(struct writer *writer, struct sender *sender, struct connection **idle) {
    struct connection *c = *idle;
    if (c) *idle = c->next;
    else {
        c = calloc(1, sizeof *c), c->socket = tcp();
        struct sockaddr_in address = loopback(writer->port);
        if (connect(c->socket, (struct sockaddr *)&address, sizeof address)) err(1, "connect");
        watch(writer->poll, c->socket, EPOLLIN | EPOLLOUT | EPOLLET, c);
    }
    c->work = sender, c->sent = c->got = 0;
    connection_send(c);
}
static void *write_on(void *argument) {
    struct writer *writer = argument;
    struct connection *idle = NULL;
    struct epoll_event events[most_events];
    for (;;) {
        int count = epoll_wait(writer->poll, events, most_events, -1);
        for (int i = 0; i < count; i++) {
            if (events[i].data.ptr) { connection_go_on(events[i].data.ptr, &idle); continue; }
            for (struct sender *sender = list_take(&writer->todo), *next; sender; sender = next) {
                next = sender->next[writer->todo.link];
                connection_start(writer, sender, &idle);
            }
        }
    }
    return NULL;
}

static void sender_close(struct sender *sender) {
    close(sender->socket), free(sender->bytes), free(sender);
}
static void sender_read(struct sender *sender) {
    if (sender->busy) { sender->closed = true; return; }
    for (;;) {
        if (sender->have == sender->room && !(sender->bytes = realloc(sender->bytes, sender->room = sender->room ? 2 * sender->room : 16384))) err(1, "realloc");
        ssize_t n = recv(sender->socket, sender->bytes + sender->have, sender->room - sender->have, MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN) return;
        if (n <= 0) return sender_close(sender);
        sender->have += n;
        if (!sender->need && (sender->need = message_size(sender->bytes, sender->have)) > sender->room)
            if (!(sender->bytes = realloc(sender->bytes, sender->room = sender->need))) err(1, "realloc");
        if (sender->need && sender->have >= sender->need) break;
    }
    sender->busy = true, sender->open = destinations;
    for (int i = 0; i < destinations; i++) list_add(&writers[i].todo, sender);
}
static void sender_answer(struct sender *sender) {
    const char *answer = sender->failed ? "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n" : "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    send(sender->socket, answer, strlen(answer), MSG_NOSIGNAL | MSG_DONTWAIT);
    sender->have = sender->need = 0, sender->busy = false, sender->failed = 0;
    if (sender->closed) sender_close(sender);
}

int main(int count, char **arguments) {
    destinations = count - 2;
    if (destinations < 1 || destinations > most_destinations) errx(1, "usage: relay PORT DESTINATION_PORT...");
    int poll = epoll_create1(0), listener = tcp();
    struct sockaddr_in address = loopback(atoi(arguments[1]));
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 1024)) err(1, "listen");
    watch(poll, listener, EPOLLIN, &listener);
    list_start(&answered, most_destinations, poll);
    for (int i = 0; i < destinations; i++) {
        writers[i].poll = epoll_create1(0), writers[i].port = atoi(arguments[i + 2]);
        list_start(&writers[i].todo, i, writers[i].poll);
        if (pthread_create(&(pthread_t){0}, NULL, write_on, &writers[i])) err(1, "pthread_create");
    }
    struct epoll_event events[most_events];
    for (;;) {
        int ready = epoll_wait(poll, events, most_events, -1);
        for (int i = 0; i < ready; i++) {
            if (events[i].data.ptr == &listener) {
                struct sender *sender = calloc(1, sizeof *sender);
                if ((sender->socket = accept(listener, NULL, NULL)) < 0) err(1, "accept");
                setsockopt(sender->socket, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
                watch(poll, sender->socket, EPOLLIN | EPOLLRDHUP | EPOLLET, sender);
            } else if (events[i].data.ptr) sender_read(events[i].data.ptr);
            else for (struct sender *sender = list_take(&answered), *next; sender; sender = next) {
                next = sender->next[most_destinations];
                sender_answer(sender);
            }
        }
    }
}
