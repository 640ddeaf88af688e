// What Glibc's Swift module leaves out.  _GNU_SOURCE is not defined here: it would change fd_set under Swift's own Glibc module.
#pragma once
#include <netinet/in.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/socket.h>

extern int accept4(int, struct sockaddr *, socklen_t *, int);
extern int malloc_trim(size_t);
extern int pthread_setname_np(pthread_t, const char *);
