// libcurl, and the typed forms of its variadic functions, which Swift cannot call.
#pragma once
#include <curl/curl.h>

static inline CURLcode ccurl_set_long(CURL *handle, CURLoption option, long value) { return curl_easy_setopt(handle, option, value); }
static inline CURLcode ccurl_set_offset(CURL *handle, CURLoption option, curl_off_t value) { return curl_easy_setopt(handle, option, value); }
static inline CURLcode ccurl_set_text(CURL *handle, CURLoption option, const char *value) { return curl_easy_setopt(handle, option, value); }
static inline CURLcode ccurl_set_pointer(CURL *handle, CURLoption option, const void *value) { return curl_easy_setopt(handle, option, value); }
static inline CURLcode ccurl_set_list(CURL *handle, CURLoption option, struct curl_slist *value) { return curl_easy_setopt(handle, option, value); }
static inline CURLcode ccurl_set_write(CURL *handle, curl_write_callback value) { return curl_easy_setopt(handle, CURLOPT_WRITEFUNCTION, value); }
static inline CURLcode ccurl_set_header(CURL *handle, curl_write_callback value) { return curl_easy_setopt(handle, CURLOPT_HEADERFUNCTION, value); }

static inline CURLcode ccurl_set_progress(CURL *handle, curl_xferinfo_callback value) { return curl_easy_setopt(handle, CURLOPT_XFERINFOFUNCTION, value); }
static inline CURLcode ccurl_set_open(CURL *handle, curl_opensocket_callback value) { return curl_easy_setopt(handle, CURLOPT_OPENSOCKETFUNCTION, value); }
static inline CURLcode ccurl_set_close(CURL *handle, curl_closesocket_callback value) { return curl_easy_setopt(handle, CURLOPT_CLOSESOCKETFUNCTION, value); }

static inline CURLcode ccurl_get_long(CURL *handle, CURLINFO info, long *value) { return curl_easy_getinfo(handle, info, value); }
static inline CURLcode ccurl_get_offset(CURL *handle, CURLINFO info, curl_off_t *value) { return curl_easy_getinfo(handle, info, value); }
static inline CURLcode ccurl_get_pointer(CURL *handle, CURLINFO info, void **value) { return curl_easy_getinfo(handle, info, value); }

static inline CURLMcode ccurl_multi_set_long(CURLM *multi, CURLMoption option, long value) { return curl_multi_setopt(multi, option, value); }
static inline CURLMcode ccurl_multi_set_pointer(CURLM *multi, CURLMoption option, void *value) { return curl_multi_setopt(multi, option, value); }
static inline CURLMcode ccurl_multi_set_socket(CURLM *multi, curl_socket_callback value) { return curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, value); }
static inline CURLMcode ccurl_multi_set_timer(CURLM *multi, curl_multi_timer_callback value) { return curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, value); }

// The same for a program that opens libcurl itself: `function` is curl_easy_setopt or curl_easy_getinfo as dlsym gave it.
typedef CURLcode (*ccurl_setopt)(CURL *, CURLoption, ...);
typedef CURLcode (*ccurl_getinfo)(CURL *, CURLINFO, ...);
static inline CURLcode ccurl_call_set_long(void *function, CURL *handle, CURLoption option, long value) { return ((ccurl_setopt)function)(handle, option, value); }
static inline CURLcode ccurl_call_set_text(void *function, CURL *handle, CURLoption option, const char *value) { return ((ccurl_setopt)function)(handle, option, value); }
static inline CURLcode ccurl_call_set_pointer(void *function, CURL *handle, CURLoption option, const void *value) { return ((ccurl_setopt)function)(handle, option, value); }
static inline CURLcode ccurl_call_set_write(void *function, CURL *handle, curl_write_callback value) { return ((ccurl_setopt)function)(handle, CURLOPT_WRITEFUNCTION, value); }
static inline CURLcode ccurl_call_set_header(void *function, CURL *handle, curl_write_callback value) { return ((ccurl_setopt)function)(handle, CURLOPT_HEADERFUNCTION, value); }
static inline CURLcode ccurl_call_get_pointer(void *function, CURL *handle, CURLINFO info, void **value) { return ((ccurl_getinfo)function)(handle, info, value); }
static inline CURLcode ccurl_call_set_progress(void *function, CURL *handle, curl_xferinfo_callback value) { return ((ccurl_setopt)function)(handle, CURLOPT_XFERINFOFUNCTION, value); }
static inline CURLcode ccurl_call_get_long(void *function, CURL *handle, CURLINFO info, long *value) { return ((ccurl_getinfo)function)(handle, info, value); }

static inline CURLcode ccurl_message_result(const CURLMsg *message) { return message->data.result; }
